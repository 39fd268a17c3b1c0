"""python3 -m unittest discover -s benches/wrk: the runner's own arithmetic and care for processes."""

import http.server
import os
import pathlib
import re
import socket
import sys
import threading
import types
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import idle
import knobs
import load
import messages
import relay
import report
import servers


def figures(cpu_us, p99_us=100):
    return {"requests_per_s": 1.0, "cpu_us": cpu_us, "p50_us": 50, "p99_us": p99_us, "others_percent": 0.0}


def accounted(**changes):
    found = {"requests": 100, "bytes": 20_000, "wrong": 0, "errors": {"read": 0, "status": 0}}
    return found | changes


class Requests(unittest.TestCase):
    def test_every_file_is_whole_and_frames_its_body(self):
        for kind in messages.KINDS:
            for era in messages.ERAS:
                data = messages.Request(kind, era).encode("h:1", "S").decode()
                head, body = data.split("\r\n\r\n")
                self.assertIn(f"\r\nContent-Length: {len(body)}", head)
                self.assertEqual("Mcp-Session-Id: S" in head, kind != "initialize")
                self.assertNotIn("\n", head.replace("\r\n", ""))

    def test_modern_headers_agree_with_the_body(self):
        data = messages.Request("tools_call", "modern").encode("h:1").decode()
        for header, field in (("Mcp-Method", "method"), ("Mcp-Name", "name")):
            value = re.search(rf"\r\n{header}: (\S+)\r\n", data)[1]
            self.assertIn(f'"{field}":"{value}"', data)

    def test_a_reply_in_pieces_and_a_202_are_framed(self):
        listener = socket.create_server(("127.0.0.1", 0))

        def answer():
            peer, _ = listener.accept()
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 202 Accepted\r\n\r\n":
                peer.sendall(bytes([byte]))
            peer.close()

        threading.Thread(target=answer, daemon=True).start()
        conn = messages.Conn(listener.getsockname())
        first, second = conn.reply(), conn.reply()
        self.assertEqual((first.status, first.body, second.status), (200, b"abc", 202))
        with self.assertRaises(messages.WrongReply):
            conn.reply()
        conn.close()
        listener.close()


class Faults(unittest.TestCase):
    def test_right_runs_have_none(self):
        self.assertEqual(load.faults(accounted(), 200), [])
        self.assertEqual(load.faults(accounted(), 201), [])

    def test_each_kind_is_told(self):
        self.assertEqual(load.faults(accounted(errors={"status": 3}), 200), ["3 status errors"])
        self.assertEqual(load.faults(accounted(wrong=1), 200), ["1 wrong replies"])
        self.assertEqual(load.faults(accounted(requests=0), 200), ["no request was answered"])
        self.assertEqual(len(load.faults(accounted(), 250)), 1)


class Knobs(unittest.TestCase):
    def test_every_experiment_is_there_and_compares(self):
        for quick in (False, True):
            for knob, (name, _, values) in knobs.experiments(quick).items():
                self.assertTrue(callable(getattr(knobs.Inside, name)), knob)
                self.assertTrue(len(values) > 1 or knob == "hundred-k", knob)
                for sysctls, _ in values.values():
                    self.assertLessEqual({key.split(".")[0] for key in sysctls}, {"net"}, "others are not a namespace's own")

    def test_a_summary_has_the_median_of_each_value(self):
        options = types.SimpleNamespace(folder=pathlib.Path("run"), experiments=knobs.experiments(True))
        rounds = [{"per_s": n, "starts": True} for n in (5000, 1000, 3000)]
        text = knobs.summary(options, {"congestion": {"bbr": rounds, "reno": rounds[1:2]}}, {"date": "today"})
        self.assertIn("| bbr | 3,000 | True |", text)
        self.assertIn("| reno | 1,000 | True |", text)
        self.assertIn("- date: today", text)


class Ratios(unittest.TestCase):
    def test_a_ratio_is_of_rounds_not_of_medians(self):
        rounds = {"ringhub": [figures(1), figures(2), figures(9)], "bare_loop": [figures(2), figures(1), figures(9)]}
        self.assertEqual(report.ratio(rounds, "ringhub", "bare_loop", "cpu_us"), 1)
        self.assertIsNone(report.ratio(rounds, "ringhub", "rmcp_server", "cpu_us"))

    def test_floors_are_judged_where_measured(self):
        samples = {
            "tools_call-modern-c64": {"ringhub": [figures(7, 200)], "bare_loop": [figures(5, 100)]},
            "tools_call-modern-c1000": {"ringhub": [figures(7.5)]},
        }
        held = report.floors(samples)
        self.assertEqual([round(value, 3) for _, value, _ in held], [1.4, 2.0, 1.071])
        self.assertEqual(report.floors_text(held).count("NOT MET"), 2)

    def test_a_batch_without_latency_still_has_its_row(self):
        row = figures(1, None) | {"p50_us": None}
        text = report.table(report.summarise({"pipelined-modern-c64": {"bare_loop": [row]}}))
        self.assertIn("| 1.00 (1.00-1.00) | - | - |", text)


class Relays(unittest.TestCase):
    """What is made of the rounds of `--relay`."""

    def rounds(self, *cpu_us):
        return [figures(each) | {"back_percent": 60.0} for each in cpu_us]

    def test_ratios_are_to_nginx_and_its_own_row_has_none(self):
        samples = {"relay_call-modern-c64": {"ringhub": self.rounds(10, 12), "nginx": self.rounds(20, 24)}}
        text = relay.table(relay.summarise(samples))
        self.assertIn("| 11.00 (10.00-12.00) | 50 | 100 | 0.500 | 1.00 | 60 % |", text)
        self.assertIn("| 22.00 (20.00-24.00) | 50 | 100 | - | - | 60 % |", text)

    def test_each_floor_is_judged_where_both_were_measured(self):
        slow = [figures(30) | {"p50_us": 140}]
        samples = {
            "relay_call-modern-c64": {"ringhub": [figures(30)], "nginx": [figures(20)]},
            "relay_call-modern-c1": {"ringhub": slow, "nginx": [figures(20) | {"p50_us": 100}]},
            "relay_call-legacy-c64": {"ringhub": [figures(30)]},
        }
        held = relay.floors(samples)
        self.assertEqual([value for _, value, _ in held], [1.5, 1.4])
        self.assertEqual(report.floors_text(held).count("NOT MET"), 2)

    def test_a_relay_that_answers_wrong_is_found_out(self):
        listener = socket.create_server(("127.0.0.1", 0))

        def answer():
            peer, _ = listener.accept()
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" * 4)
            peer.recv(65536)
            peer.close()

        threading.Thread(target=answer, daemon=True).start()
        with self.assertRaises(messages.WrongReply):
            relay.check(types.SimpleNamespace(address=listener.getsockname()), "modern")
        listener.close()


class Sessions(unittest.TestCase):
    """Idle sessions counted at a server that opens one per handshake, or the same one always."""

    def setUp(self):
        kept = idle.SETTLE_S, idle.WARM_REQUESTS
        self.addCleanup(lambda: (setattr(idle, "SETTLE_S", kept[0]), setattr(idle, "WARM_REQUESTS", kept[1])))
        idle.SETTLE_S, idle.WARM_REQUESTS = 0, 10

    def serve(self, name):
        """A server whose memory grows by 700 bytes a session named by `name(n)`."""
        opened = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                if b"notifications/" in asked:
                    self.send_response(202)
                    self.end_headers()
                    return
                opened.append(name(len(opened)))
                body = b'{"result":{"protocolVersion":"2025-11-25"}}'
                self.send_response(200)
                self.send_header("Mcp-Session-Id", opened[-1])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        self.addCleanup(listening.server_close)
        self.addCleanup(listening.shutdown)
        return types.SimpleNamespace(
            address=listening.server_address, rss_bytes=lambda: 700 * len(opened), check_alive=lambda: None
        )

    def test_each_costs_what_the_server_grew_by(self):
        found = idle.sessions(self.serve(lambda n: f"s{n}"), 40)
        self.assertEqual((found["count"], found["bytes_each"]), (40, 700))

    def test_one_session_for_all_is_not_taken_for_many(self):
        with self.assertRaisesRegex(servers.CannotRun, "40 handshakes opened 1 sessions"):
            idle.sessions(self.serve(lambda n: "same"), 40)


class Processes(unittest.TestCase):
    def test_a_server_that_ends_at_once_is_told_with_its_words(self):
        with self.assertRaisesRegex(servers.CannotRun, "out of luck"):
            servers.Server("s", ["sh", "-c", "echo out of luck; exit 3"], None)

    def test_cpu_and_memory_are_read_and_the_process_ends(self):
        script = "echo http://127.0.0.1:9/mcp; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 60"
        server = servers.Server("s", ["sh", "-c", script], None)
        self.assertEqual(server.address, ("127.0.0.1", 9))
        self.assertGreater(server.rss_bytes(), 100_000)
        pid = server.process.pid
        self.assertGreater(server.cpu_ns(), 0)
        server.stop()
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)


if __name__ == "__main__":
    unittest.main()
