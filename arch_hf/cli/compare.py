"""`arch-hf compare A.json B.json`: is A better than B?"""


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="is one result better than another?",
        example="arch-hf compare results/me__new/esc50.json results/me__old/esc50.json",
        description="Paired bootstrap over the test clips of two results on the same dataset under the same protocol, "
        "from the predictions stored beside them.",
    )
    parser.add_argument("first", metavar="A.json", help="a result file; its .predictions.safetensors lies beside it")
    parser.add_argument("second", metavar="B.json")
    parser.set_defaults(run=run)


def run(args) -> int:
    from arch_hf.probing.statistics import N_RESAMPLES
    from arch_hf.results.comparison import compare
    from arch_hf.results.text import align

    found = compare(args.first, args.second)
    rows = [["metric", "A", "B", "A − B", "95% interval", "p"]]
    for row in found.differences:
        low, high = row.ci95
        shown = [f"{100 * row.first:.2f}", f"{100 * row.second:.2f}", f"{100 * row.difference:+.2f}"]
        rows.append([row.metric, *shown, f"{100 * low:+.2f} – {100 * high:+.2f}", f"{row.p:.3f}"])
    print(f"A: {found.names[0]}\nB: {found.names[1]}\n\n{align(rows)}\n\n{found.verdict}")
    units = "" if found.n_units == found.n_clips else f" in {found.n_units} groups"
    print(f"Paired bootstrap of {found.n_clips} test clips{units}, {N_RESAMPLES} resamples.")
    if found.left_out:
        print(f"{found.left_out} clips were scored by one of the two only and are left out.")
    return 0
