"""Values of environment variables that a shell, systemd, YAML or Jinja would each like to read in a way of its own."""

PEM = "-----BEGIN CERTIFICATE-----\nMIIB+jCCAaCgAwIBAgIU\n-----END CERTIFICATE-----\n"
TRICKY = {
    "TRICKY_BACKSLASH": "C:\\new\\table\\",
    "TRICKY_QUOTES": 'it\'s "quoted" `so`',
    "TRICKY_DOLLAR": "$HOME ${PATH} $$ %s %% %n",
    "TRICKY_HASH": "# not ; a comment #",
    "TRICKY_SPACES": "  both ends  ",
    "TRICKY_EMPTY": "",
    "TRICKY_LINES": PEM,
    "TRICKY_LOOKS_LIKE_YAML": "no: {a: [1e3, ~]} &x *y !z",
    "TRICKY_NUMBER": "012",
    "TRICKY_WORD": "no",
    "TRICKY_NOTHING": "~",
    "TRICKY_TAG": "!unsafe x",
    "TRICKY_BRACES": "}} %} #} { { [[ x ]]",
    "TRICKY_LETTERS": "größer \u2028 日本",
    "TRICKY_LONG": "x" * 65_536,
}
