"""A pod on real processes calls the API by what was mounted into it, as any in-cluster client."""

import asyncio
import os
from pathlib import Path

import pytest

from kubeloop.cluster import Cluster
from kubeloop.net.registry import ImageStore

pytestmark = pytest.mark.process

PROGRAM = """
import json, os, ssl, urllib.request
root = "/var/run/secrets/kubernetes.io/serviceaccount"
host, port = (os.environ["KUBERNETES_SERVICE_" + name] for name in ("HOST", "PORT"))
with open(root + "/token") as token, open(root + "/namespace") as namespace:
    headers, where = {"Authorization": "Bearer " + token.read()}, namespace.read()
url = "https://%s:%s/api/v1/namespaces/%s/pods" % (host, port, where)
context = ssl.create_default_context(cafile=root + "/ca.crt")
with urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context) as told:
    print(where, [pod["metadata"]["name"] for pod in json.load(told)["items"]])
try:
    open(root + "/more", "w")
except OSError as error:
    print(error.strerror)
"""


async def test_a_pod_lists_the_pods_of_its_namespace(tmp_path: Path) -> None:
    program, images = tmp_path / "caller", tmp_path / "images"
    program.mkdir()
    images.mkdir()
    (program / "main.py").write_text(PROGRAM)
    lines = ["FROM host", "COPY main.py /main.py", 'CMD ["python3", "/main.py"]', ""]
    (program / "Containerfile").write_text("\n".join(lines))
    ImageStore(images).build(program, "test/caller:1")
    spec = {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "test/caller:1"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    name = f"a{os.getpid()}"
    async with Cluster(
        nodes=1, rest=True, tls=True, runtime="process", image_dir=images, name=name
    ) as cluster:
        await cluster.api.create(pod)
        done = await cluster.api.wait(
            "pod/p", lambda obj: obj.status.get("phase") == "Succeeded", timeout_s=60
        )
        asked = {"previous": False, "follow": False}
        async with asyncio.timeout(60):
            told = [line async for _, line in cluster.logs("default", "p", "c", **asked)]
    assert done.status["phase"] == "Succeeded"
    assert told == [b"default ['p']\n", b"Read-only file system\n"]
