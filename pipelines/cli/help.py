"""What --help shows: of bertline its verbs, of a verb its flags in their groups; at the terminal's width."""

import argparse
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

WIDEST = 110  # columns; longer lines are hard to read
GENERAL = "general"


def format_verbs(groups: Mapping[str, Mapping[str, str]], examples: Sequence[str]) -> str:
    """The help of bertline itself: group -> verb -> what it does."""
    sections = []
    for title, verbs in groups.items():
        width = max(map(len, verbs))
        lines = (_fill(f"  {name:{width}}  {summary}", 4 + width) for name, summary in verbs.items())
        sections.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(
        [
            "usage: bertline VERB [--FLAG VALUE ...]",
            _fill("From a Wikipedia dump and a shelf of books to a pretrained, evaluated and exported BERT."),
            *sections,
            "\n".join(["examples:", *(_format_command(example) for example in examples)]),
            _fill("`bertline VERB --help` shows a verb's flags and an example, `bertline --version` the version."),
        ]
    )


def format_help(parser: argparse.ArgumentParser) -> str:
    """The help of a verb; -h and --config come last."""
    positionals, options, *groups = parser._action_groups
    options.title = GENERAL
    formatter = _Formatter(parser.prog, width=_width())
    formatter.add_text(_fill(parser.description or ""))
    for group in (positionals, *groups, options):
        formatter.start_section(group.title)
        formatter.add_text(_fill(group.description, margin=2) if group.description else None)
        formatter.add_arguments(group._group_actions)
        formatter.end_section()
    return f"{format_usage(parser)}\n{formatter.format_help()}{_format_examples(parser.epilog or '')}"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Lines that break between words alone."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def format_usage(parser: argparse.ArgumentParser) -> str:
    """What must be given; the flags that may be are too many for a line."""
    groups = [group for group in parser._mutually_exclusive_groups if group.required]
    alternatives = [action for group in groups for action in group._group_actions]
    needed = [action for action in parser._actions if action.required and action not in alternatives]
    words = [_format_action(action) for action in needed]
    words += [f"({' | '.join(map(_format_action, group._group_actions))})" for group in groups]
    return _fill(" ".join([f"usage: {parser.prog}", *words, "[--FLAG VALUE ...]"]), len("usage: ")) + "\n"


def _format_action(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return " ".join([*action.option_strings[:1], *([] if action.nargs == 0 else [value])])


def _format_examples(text: str) -> str:
    """Lines of commands and of text between them."""
    if not text:
        return ""
    lines = [line.strip() for line in text.splitlines()]
    title = "examples" if sum(map(_is_command, lines)) > 1 else "example"
    return "\n".join(
        [f"\n{title}:", *(_format_command(line) if _is_command(line) else _fill(line) for line in lines), ""]
    )


def _is_command(line: str) -> bool:
    return "bertline " in line.partition("#")[0][:40] and not line[:1].isupper()


def _format_command(command: str) -> str:
    r"""The command as one can paste it; what is too long for a line goes on after a \."""
    lines, line = [], ""
    for word in _split_flags(command):
        if line and len(f"  {line} {word} \\") > _width():
            lines.append(f"  {line} \\")
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, f"  {line}"])


def _split_flags(command: str) -> Iterable[str]:
    """The words of a command, a flag with its value."""
    first, *rest = command.split(" --")
    return [*first.split(" "), *(f"--{each}" for each in rest)]


def _fill(text: str, indent: int = 0, margin: int = 0) -> str:
    """Paragraphs at the terminal's width less a margin, a line's rest indented; line ends stay."""
    width, rest = _width() - margin, " " * indent
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def _width() -> int:
    return min(shutil.get_terminal_size().columns, WIDEST)
