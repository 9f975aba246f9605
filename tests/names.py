"""Names that a filesystem takes, and that libraries would rather read as something else."""

NASTIEST = "-first #2 [1] [bold] 100%41 what?&a=b;c:@*+,{x}${y}~!<i>|`'\"\\ 日本 é ע 👩‍🔬"
"""For tests that take one name from end to end."""

NASTY = (
    *(
        "first #2",
        "#",
        "a [1]",
        "[ab]*?",
        "what?x=1&y",
        "100%",
        "a%20b",
        "%",
        "a+b",
        "a=1",
        "a:b",
        "c:",
        "a@b",
        "a;b,c",
    ),
    *(
        "{x}",
        "${x}",
        "$HOME",
        "~",
        "~nobody",
        "-x",
        "--preset",
        "..x",
        ".hidden",
        "_x",
        "x.",
        " led ",
        "tab\t",
        "two\nlines",
    ),
    *("back\\slash", "'", '"', "`x`", "<b>", "[bold]", "a|b", "!", "^", "\x7f\u2028", "0123", "null", "x" * 200),
    *("日本語", "עברית", "हिन्दी", "é", "e\u0301", "👩‍🔬"),
    NASTIEST,
)
