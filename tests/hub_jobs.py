"""Jobs and buckets of the loopback Hub: what huggingface_hub's client sends and what it is answered, as the Hub documents it."""

import re

from hub_repo import Refusal

HARDWARE = [
    {
        "name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "accelerator": None,
        "unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute",
    },
    {
        "name": "a10g-small", "prettyName": "Nvidia A10G - small", "cpu": "4 vCPU", "ram": "15 GB", "unitCostMicroUSD": 16667,
        "unitCostUSD": 0.016667, "unitLabel": "minute",
        "accelerator": {"type": "gpu", "model": "A10G", "quantity": "1", "vram": "24 GB", "manufacturer": "Nvidia"},
    },
    {
        "name": "l4x4", "prettyName": "4x Nvidia L4", "cpu": "48 vCPU", "ram": "186 GB", "unitCostMicroUSD": 63333,
        "unitCostUSD": 0.063333, "unitLabel": "minute",
        "accelerator": {"type": "gpu", "model": "L4", "quantity": "4", "vram": "96 GB", "manufacturer": "Nvidia"},
    },
]  # fmt: skip


class RentedMachines:
    """`jobs` are the job specs as they were sent, with the stage that a test gives them; `buckets` the names of those that were made, `public`
    those of them that everybody may read."""

    def __init__(self):
        self.jobs, self.buckets, self.public = [], [], []

    def answer(self, method, path, query, body):
        if path == "/api/jobs/hardware":
            return 200, HARDWARE, {}
        if match := re.fullmatch(r"/api/buckets/([^/]+/[^/]+)", path):
            known, url = match[1] in self.buckets, f"https://huggingface.co/buckets/{match[1]}"
            self.buckets += [] if known else [match[1]]
            is_private = body.get("private") or body.get("visibility") == "private"
            self.public += [] if known or is_private else [match[1]]
            return (
                (409, {"error": "You already created this bucket", "url": url}, {})
                if known
                else (200, {"url": url}, {})
            )
        if (match := re.fullmatch(r"/api/jobs/([^/]+)", path)) and method == "POST":
            if body["flavor"] not in {flavor["name"] for flavor in HARDWARE}:
                raise Refusal(400, "Invalid flavor")
            self.jobs.append(body | {"stage": "RUNNING", "owner": match[1]})
            return 200, self._info(len(self.jobs) - 1), {}
        if match:
            wanted = dict([query["label"].split("=", 1)]) if "label" in query else {}
            found = [i for i, job in enumerate(self.jobs) if wanted.items() <= job.get("labels", {}).items()]
            return 200, [self._info(i) for i in found], {}
        raise Refusal(404, f"no such endpoint: {method} {path}")

    def _info(self, number):
        job = self.jobs[number]
        return {
            "id": f"{number:024x}", "createdAt": "2026-01-01T00:00:00.000Z", "dockerImage": job.get("dockerImage"),
            "owner": {"id": "1", "name": job["owner"], "type": "user"}, "command": job["command"], "arguments": [],
            "environment": job["environment"], "secrets": {}, "flavor": job["flavor"], "labels": job.get("labels"),
            "status": {"stage": job["stage"], "message": job.get("message")},
        }  # fmt: skip
