"""An MJPEG camera on HTTP, as many network cameras are."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from tests.small_bundle import good_picture

GENEROUS_S = 30.0


class NetworkCamera:
    """An MJPEG camera on HTTP that gives ``frames`` pictures, then falls silent or hangs up."""

    def __init__(self, frames: int, then_silent: bool) -> None:
        self.given = frames
        self.over = threading.Event()
        picture = cv2.imencode(".jpg", good_picture())[1].tobytes()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
                self.end_headers()
                for _ in range(camera.given):
                    head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}"
                    self.wfile.write(f"{head}\r\n\r\n".encode() + picture + b"\r\n")
                self.wfile.flush()
                if then_silent:
                    camera.over.wait(GENEROUS_S)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.uri = f"http://me:geheim@127.0.0.1:{self._server.server_address[1]}/video"

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
