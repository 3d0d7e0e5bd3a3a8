"""Certificates made for a test."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of a test."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        """Make its key and certificate."""
        folder.mkdir()
        authority = cls(folder)
        authority._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority",
        )  # fmt: skip
        return authority

    @property
    def ca(self) -> Path:
        """Its certificate."""
        return self.folder / "ca.pem"

    def sign(self, name: str, *, days: int = 2) -> tuple[Path, Path]:
        """Make a key and a certificate for a name; return certificate and key.

        Args:
            name: A DNS name.
            days: How long it is good for from now; a negative number makes an expired one.
        """
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name}\n", encoding="utf-8")
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", str(days),
            "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", extensions.name,
        )  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            pytest.skip("openssl is not installed; it makes the certificates")
        subprocess.run(
            [program, *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30
        )
