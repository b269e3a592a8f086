"""`python -m hpjax.train`: trains one trial. Flags in, exit code out."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpjax import command, flags

if TYPE_CHECKING:
    from hpjax.result import Result

DESCRIPTION = "Trains one network and writes a run folder; the same command again goes on where it was stopped."


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0 (done), 1 (the loss diverged), 2 (bad input), 130 or 143 (interrupted)."""
    full_help = flags.wants_help(argv)
    if full_help is not None:
        sys.stdout.write(flags.help_text("python -m hpjax.train", DESCRIPTION, full_help))
        return 0

    def work() -> int:
        config = flags.parse(argv)
        # Imported late, so that --help and a misspelt flag answer at once.
        from hpjax import processes

        if config.dry_run:
            from hpjax.preview import preview

            lines = preview(config)
            if processes.is_first():
                command.show("\n".join(lines))
            return 0
        from hpjax.runner import run

        result = run(config, leave_at_second=True)
        if processes.is_first():
            command.show(summary(result))
        return 0 if result.status == "done" else 1

    return command.run("hpjax.train", work)


def summary(result: "Result") -> str:
    """Returns the lines that end a run on the screen."""
    lines = [f"{result.status} after {result.seconds:.1f} s of training: {result.run_dir}"]
    if result.diverged_at is not None:
        lines[0] = f"diverged at step {result.diverged_at}: the training loss is not finite: {result.run_dir}"
        lines.append("try a lower --learning_rate, a longer --warmup or --clip_norm=1; metrics.jsonl has the steps before")
    if result.stopped_at is not None:
        lines[0] = f"stopped early at step {result.stopped_at} after {result.seconds:.1f} s of training: {result.run_dir}"
    if result.best is not None:
        name = (result.config.objective or "").partition(":")[0]
        lines.append(f"best {name} {result.best['value']:.4f} at step {result.best['step']:.0f}")
        if result.config.objective_value != "best":
            lines.append(f"{result.config.objective_value} {name} {result.objective:.4f}")
    if result.test:
        lines.append("  ".join(f"{name} {value:.4f}" for name, value in result.test.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
