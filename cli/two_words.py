"""Commands of two words, beside a command of the first word alone."""

import typer.core


class TwoWordGroup(typer.core.TyperGroup):
    """Finds `prep inspect` where such a command is registered, and `prep` with any other argument."""

    def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def] # Typer's own types are private
        """Take two words for the command's name where they are one."""
        if " ".join(args[:2]) in self.commands:
            args = [" ".join(args[:2]), *args[2:]]
        return super().resolve_command(ctx, args)
