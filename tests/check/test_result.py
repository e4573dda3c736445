from __future__ import annotations

from tscnc_deploy.check import CheckResult, exit_status


def test_the_worst_outcome_decides():
    def status(*outcomes):
        return exit_status(CheckResult("x", outcome) for outcome in outcomes)

    assert [status(), status("passed", "note", "skipped"), status("failed"), status("error")] == [0, 0, 1, 2]
    assert [status("unavailable"), status("inconclusive")] == [3, 4]
    assert status("inconclusive", "failed", "unavailable") == 1
    assert status("failed", "error") == 2


def test_what_was_not_checked_does_not_pass_for_inconclusive():
    def status(*outcomes):
        return exit_status(CheckResult("x", outcome) for outcome in outcomes)

    assert [status("not checked"), status("not checked", "inconclusive"), status("not checked", "failed")] == [5, 5, 1]
