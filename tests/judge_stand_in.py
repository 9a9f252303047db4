"""A server on this machine that stands in for OpenAI's chat completions."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = '{"correct": "yes", "score": 4}'


class StandIn:
    """A server that answers each request with the next of `replies`: a status, or the text of a message."""

    def __init__(self, replies):
        self.requests, self.replies, self.lock = [], list(replies), threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(
                        (self.path, {name.title(): value for name, value in self.headers.items()}, body)
                    )
                    reply = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                status = reply if isinstance(reply, int) else 200
                content = {"error": "so"} if status != 200 else {"choices": [{"message": {"content": reply}}]}
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("retry-after-ms", "5")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
