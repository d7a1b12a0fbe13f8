"""Keras's own tests of its optimizers, with `Grapes` around every optimizer that they make."""

import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[2]
KERAS_TESTS = pathlib.Path(keras.__file__).parent / "src" / "optimizers"

# What these ask of an optimizer, a wrapper does not have; each with the reason.
NOT_OF_A_WRAPPER = {
    # Private methods and variables of the class, which the inner optimizer has.
    "MuonTest::test_Newton_Schulz",
    "MuonTest::test_adamw_single_step",
    "MuonTest::test_adamw_weight_decay",
    "MuonTest::test_lr_adjust_2d",
    "MuonTest::test_lr_adjust_none",
    "MuonTest::test_muon_single_step",
    "MuonTest::test_should_use_adamw",
    "NadamTest::test_build_with_empty_var_list",
    "OptimizerTest::test_gradient_accumulation",
    "OptimizerTest::test_overwrite_with_gradient_with_gradient_accumulation",
    # It watches `assign` of the optimizer in the loss scaling, and the inner one assigns.
    "OptimizerSparseTest::test_sparse_gradients_loss_scale_optimizer_sgd",
    # The class or the automatic name of what was made.
    "MultiOptimizerTest::test_serialization",
    "MultiOptimizerTest::test_tensorboard_logging_with_multi_optimizer",
    "OptimizerTest::test_get_method",
    "OptimizerTest::test_optimizer_auto_naming",
}


@pytest.mark.slow
@pytest.mark.skipif(
    not list(KERAS_TESTS.glob("*_test.py")), reason="this Keras was installed without its tests"
)
def test_keras_finds_the_optimizers_that_it_wrote(tmp_path):
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.optimizers.over_grapes"]
    options = ["-p", "no:cacheprovider", "-W", "ignore", f"--junitxml={report}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, *options, str(KERAS_TESTS)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert report.exists(), done.stdout + done.stderr
    cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    failed = {
        f"{case.get('classname').rsplit('.', 1)[-1]}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    assert failed <= NOT_OF_A_WRAPPER, done.stdout
    assert len(cases) - len(failed) > 150
