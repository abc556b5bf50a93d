# SPDX-License-Identifier: Apache-2.0
"""An S3 server: moto's, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import requests
from postgres import free_port
from processes import END_WITH_US, wait_until

BUCKET = "archive"


class S3Server:
    """The server, and a client of it."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        program = Path(sys.executable).with_name("moto_server")
        port = self.url.rpartition(":")[2]
        self._process = subprocess.Popen(
            [*END_WITH_US, program, "-H", "127.0.0.1", "-p", port],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._is_up, 60, "the S3 server responds")
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def _is_up(self) -> bool:
        try:
            return requests.get(f"{self.url}/moto-api/", timeout=5).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def connection(self) -> dict[str, Any]:
        """The fields of an Airflow connection, with the extra as text."""
        extra = json.dumps({"endpoint_url": self.url, "region_name": "us-east-1"})
        return {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}

    def empty(self) -> None:
        requests.post(f"{self.url}/moto-api/reset", timeout=20)
        self.client.create_bucket(Bucket=BUCKET)

    def objects(self) -> list[str]:
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def uploads(self) -> int:
        """Return the number of incomplete multipart uploads."""
        return len(self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def content_type(self, key: str) -> str:
        return str(self.client.head_object(Bucket=BUCKET, Key=key)["ContentType"])
