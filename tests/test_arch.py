from __future__ import annotations

import pytest

from tscnc_deploy.arch import Arch, parse_arch
from tscnc_deploy.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected", "public", "slug"),
    [
        ("resnet18", Arch("builtin", "", "resnet18"), "resnet18", "resnet18"),
        ("timm:vgg11.tv_in1k", Arch("timm", "", "vgg11.tv_in1k"), "timm:vgg11.tv_in1k", "timm-vgg11.tv_in1k"),
        ("torchvision:vgg11", Arch("torchvision", "", "vgg11"), "torchvision:vgg11", "torchvision-vgg11"),
        ("a/b c/net.py:make", Arch("file", "a/b c/net.py", "make"), "net.py:make", "net-make"),
        ("C:\\nets\\net.py:make", Arch("file", "C:\\nets\\net.py", "make"), "C:\\nets\\net.py:make", "C-nets-net-make"),
        ("my.nets:make", Arch("module", "my.nets", "make"), "my.nets:make", "my.nets-make"),
    ],
)
def test_forms(text, expected, public, slug):
    network = parse_arch(text)
    assert network == expected
    assert (network.public, network.slug) == (public, slug)
    assert network.own == (expected.source in ("file", "module"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet81", r"or PACKAGE.MODULE:FUNCTION; did you mean resnet18\?$"),
        ("timm:", "does not name a network of timm; write timm:NAME"),
        ("timm:../x", "does not name a network of timm"),
        ("net.py:", "has none of the forms torchvision:NAME, timm:NAME, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"),
        ("net.py:a b", "has none of the forms"),
        ("a b:make", "has none of the forms"),
        ("a\0.py:make", "has none of the forms"),
        ("os.system('x'):y", "has none of the forms"),
    ],
)
def test_what_is_no_name(text, message):
    with pytest.raises(InputError, match=message):
        parse_arch(text)
