"""The command line. One command per module, imported on demand; slow imports are inside the commands' functions.

In addition to the exit statuses in --help, 141 means that the output pipe was closed.
"""

from __future__ import annotations

import click

from tscnc_deploy.cli.common.program import Program


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from tscnc_deploy.versions import own_version

        click.echo(f"tscnc-deploy {own_version()}")
        context.exit()


_EPILOG = """
\b
Exit status: 0 done and gates passed, 1 a gate failed, 2 bad input or usage,
3 hardware or a package is missing, 4 inconclusive, 70 an internal error,
130 interrupted by Ctrl-C or 143 by SIGTERM, both resumable.

\b
Shell completion: eval "$(_TSCNC_DEPLOY_COMPLETE=bash_source tscnc-deploy)"
or zsh_source, fish_source.
"""


@click.group(
    cls=Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def main() -> None:
    """Build image classifiers that are small and hard to fool, and verify both on the exported file.

    Start with: tscnc-deploy build --arch resnet18 --sparsity 0.95
    """
