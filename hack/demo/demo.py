"""`make demo`: from data to guarded production on a real cluster, told while it happens."""

import sys

import story
from shell import DemoError, say


def main() -> int:
    """Play every chapter; return the process's exit code."""
    kubectl = story.bring_up()
    story.install(kubectl)
    story.start_over(kubectl)
    story.make_data(kubectl)
    sft, grpo = story.train(kubectl)
    story.expect_accepted(sft, grpo)
    story.deploy_first(kubectl, sft)
    story.roll_out(kubectl, grpo)
    bad = story.train_bad(kubectl)
    story.expect_accepted(bad)
    story.roll_back(kubectl, bad)
    story.show_log(kubectl)
    story.whats_next()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DemoError as error:
        say(f"The demo stopped: {error}")
        sys.exit(1)
