"""How many commands a redis has processed, looked at from outside again and again.

usage: load_client.py ADDRESS PORT MB

It fills the redis as move_client.py does, says {"event": "ready"}, and after a line on
standard input {"event": "done", "samples": [[time of the day, commands], ...]}. A sample's
time is in the middle between question and answer, by the clock of this process.
"""
import sys
import threading
import time

from move_client import Redis, say

EVERY = 0.01            # seconds between samples


def commands(server):
    begun = time.time()
    info = server.connection.call(b"INFO", b"stats").decode()
    values = dict(line.split(":", 1) for line in info.split("\r\n") if ":" in line)
    return (begun + time.time()) / 2, int(values["total_commands_processed"])


def main():
    address, port, megabytes = sys.argv[1:]
    try:
        server = Redis(address, int(port), int(megabytes))
        say(event="ready")
        told, samples = threading.Event(), []
        threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
        while not told.wait(EVERY):
            samples.append(commands(server))
        say(event="done", samples=samples)
    except (OSError, RuntimeError) as error:
        say(event="failed", error=f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
