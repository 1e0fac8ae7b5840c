"""A judge that finds every answer specific, with the two endpoints of an OpenAI-compatible server that are needed.

Listens on JUDGE_PORT and takes requests with the key of VLLM_API_KEY only, as vLLM does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from aiohttp import web


def judge(key: str, healthy_after: float, health_takes: float) -> web.Application:
    began = time.monotonic()

    async def health(_: web.Request) -> web.Response:
        await asyncio.sleep(health_takes)
        return web.Response(status=200 if time.monotonic() - began >= healthy_after else 503)

    async def complete(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        asked = (await request.json())["messages"][-1]["content"]
        print(f"asked: {asked}", flush=True)
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": "specific"}}]})

    async def leave(_: web.Application) -> None:
        await asyncio.sleep(0.5)
        Path("judge-ended-well").touch()

    app = web.Application()
    app.on_shutdown.append(leave)
    app.router.add_get("/health", health)
    app.router.add_post("/v1/chat/completions", complete)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--healthy-after", type=float, default=0.0, help="seconds")
    parser.add_argument("--health-takes", type=float, default=0.0, help="seconds before /health is answered")
    parser.add_argument("--end-with", type=int, help="an exit code: ends at once, with a word")
    parser.add_argument("--worker", action="store_true", help="start a process that does not end by itself")
    options = parser.parse_args()
    if options.end_with is not None:
        print("no such model", flush=True)
        sys.exit(options.end_with)
    found = {"pid": os.getpid()}
    if options.worker:
        found["worker"] = subprocess.Popen(["sleep", "300"]).pid
    Path("judge.json").write_text(json.dumps(found))
    application = judge(os.environ["VLLM_API_KEY"], options.healthy_after, options.health_takes)
    web.run_app(application, host=os.environ["SLURMD_NODENAME"], port=int(os.environ["JUDGE_PORT"]), print=None)
