"""What goes wrong is one line without secrets, and its traceback lies in a file."""

import argparse
import re
import tempfile
from pathlib import Path

import pytest

from arch_hf.errors import UserError, UserErrors, as_user_error, redacted, run_command

TOKEN = "hf_" + "aB3" * 12


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"401 for {TOKEN} at the door", "401 for *** at the door"),
        ("{'authorization': 'Bearer abc.def'}", "{'authorization': 'Bearer ***'}"),
        ("https://me:pass@proxy.example:8080/x", "https://***@proxy.example:8080/x"),
        ("secret-of-the-environment is wrong", "*** is wrong"),
        ("hf_hub_download failed for s3://bucket/key", "hf_hub_download failed for s3://bucket/key"),
    ],
)
def test_no_message_holds_a_token(said, shown, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-of-the-environment")
    assert redacted(said) == shown
    assert str(UserError(said)) == shown and str(UserErrors([said, said])) == f"{shown}; {shown}"
    assert UserErrors([said]).problems == (shown,)


def test_a_token_in_a_file_is_not_shown_either(tmp_path, monkeypatch):
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "token").write_text("as-hf-auth-login-left-it")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert redacted("no as-hf-auth-login-left-it here") == "no *** here"


def test_any_other_error_is_one_line_that_names_a_log_without_secrets(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(_):
        raise RuntimeError(f"the library\nsent {TOKEN}")

    assert run_command(run, argparse.Namespace()) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("error: RuntimeError: the library sent ***") and TOKEN not in said
    log = Path(re.search(r"traceback: (\S+\.log)", said)[1])
    text = log.read_text()
    assert (
        log.parent == tmp_path and "Traceback (most recent call last)" in text and TOKEN not in text and "***" in text
    )


def test_a_name_that_is_too_long_is_the_users():
    with pytest.raises(OSError) as raised:
        Path("x" * 300).stat()
    assert (
        str(as_user_error(raised.value)) == f"a name is too long for a file or folder: {'x' * 60}... (300 characters)"
    )


def test_where_no_log_can_be_written_the_error_is_told_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    error = str(as_user_error(KeyError("x")))
    assert error.startswith("KeyError: 'x' (a fault of arch-hf") and "could not be written" in error
