"""`upsample`: what is coming; its commands land with the student."""

import click

from cli.group import HELP, FriendlyGroup


@click.group(cls=FriendlyGroup, context_settings=HELP, invoke_without_command=True)
@click.version_option(package_name="realistic-degrader")
def main() -> None:
    """A one-step diffusion upsampler trained together with the degrader: train, run, eval and export are coming."""
    click.echo(
        "upsample is not here yet: the one-step student, its training with the degrader (train), and run, eval and "
        "export come next. Until then train any SR network on the shards of `degrade synth`."
    )
