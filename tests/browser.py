"""Pages in a real browser, where there is one."""

import json
import re
import shutil
import subprocess

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]
ERRORS = "<script>const problems = []; addEventListener('error', (event) => problems.push(event.message));</script>"


def drive(page, driver, folder, size="1400,900", address=""):
    """What `driver` saw of a page: a script that runs after the page's own and leaves it in `seen`, with the page's errors in `problems`."""
    leave = "document.body.replaceChildren(Object.assign(document.createElement('pre'), { id: 'seen', textContent: JSON.stringify(seen) }));"
    page = page.replace('<script type="application/json"', ERRORS + '<script type="application/json"', 1)
    page = page.replace("</body>", f"<script>{driver}\n{leave}</script></body>")
    (folder / "page.html").write_text(page, encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    where = (folder / "page.html").as_uri() + address
    command = [BROWSER, "--headless", "--no-sandbox", f"--window-size={size}", *QUIET, profile, "--dump-dom", where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    text = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)[1]
    return json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
