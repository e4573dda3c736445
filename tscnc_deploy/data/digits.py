"""The 1,797 handwritten digits that come with scikit-learn: 8x8, grey, 17 levels; no download needed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tscnc_deploy.data.raw import Part, Raw
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data

TEST_IMAGES = 360


class Digits:
    """Optical Recognition of Handwritten Digits, UCI; a fixed stratified fifth is the test split."""

    def files(self, settings: Data) -> Mapping[str, Path]:
        # Finding the specification of a top-level package does not import it.
        spec = importlib.util.find_spec("sklearn")
        path = Path(spec.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if spec else None
        if path is None or not path.is_file():
            msg = "data.dataset = 'digits': the installed scikit-learn lacks the data; run: pip install scikit-learn"
            raise DataError(msg)
        return {"digits.csv.gz": path}

    def read(self, settings: Data) -> Raw:
        import torch
        from sklearn.datasets import load_digits

        from tscnc_deploy.data.sampling import stratified

        self.files(settings)
        images, labels = load_digits(return_X_y=True)
        images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        labels = labels.astype(np.int64)
        # The seed is part of the data set: its 360 test images never change.
        generator = torch.Generator().manual_seed(1797)
        index = stratified(torch.from_numpy(labels), TEST_IMAGES, generator).numpy()
        test = np.zeros(len(labels), dtype=bool)
        test[index] = True
        classes = tuple(str(digit) for digit in range(10))
        return Raw(classes, Part(images[~test], labels[~test]), Part(images[test], labels[test]))
