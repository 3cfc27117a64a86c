"""A private Kafka: one real broker, which is its own controller, on free ports of this computer.

Its jars come from Maven Central into a folder, once (`install`). A broker that was killed starts again on the same port
and the same data, as a real one does; its clients find it where it was.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.ports import free_ports
from servers.proxy import Proxy
from waiting import until

VERSION = "4.2.0"

_ROOT = Path(__file__).parents[2]

# The broker's own logging: without a binding it says nothing, not even why it does not start.
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bourne</groupId><artifactId>test-broker</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

# Small, alone and quick: groups do not wait for members, a dead broker is not waited for.
_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxied}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
delete.topic.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=300
controlled.shutdown.enable=false
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=8388608
log.segment.delete.delay.ms=100
log.retention.check.interval.ms=500
log.retention.ms=-1
"""


def jars_folder() -> Path:
    """Return where the jars are, or would be."""
    named = os.environ.get("BOURNE_KAFKA_JARS")
    return Path(named) if named else _ROOT / ".venv" / "kafka"


def find() -> Path | None:
    """Return the folder of the jars; None if they are not there."""
    folder = jars_folder()
    return folder if any(folder.glob("kafka_2.13-*.jar")) and any(folder.glob("slf4j-simple-*.jar")) else None


def install() -> Path:
    """Fetch the jars from Maven Central, about 45 MB; does nothing if they are there.

    Raises:
        RuntimeError: Maven or Java is missing, or Maven failed.
    """
    there = find()
    if there is not None:
        return there
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        raise RuntimeError(f"a Kafka broker needs {' and '.join(missing)} on the PATH")
    folder = jars_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as project:
        (Path(project) / "pom.xml").write_text(_POM.format(version=VERSION))
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder}"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
    there = find()
    if done.returncode or there is None:
        raise RuntimeError(f"Maven could not fetch Kafka {VERSION}:\n{(done.stdout + done.stderr)[-2000:]}")
    return there


class KafkaServer:
    """One broker with a folder of its own. `bootstrap` stays the same over restarts.

    Who begins at `proxy.url_host` stays behind the proxy: that listener says that the broker is there.
    """

    def __init__(self, jars: Path, folder: Path) -> None:
        """Format the storage; nothing runs yet."""
        port, controller_port, behind = free_ports(3)
        self.bootstrap = f"127.0.0.1:{port}"
        self.proxy = Proxy(behind)
        self._jars = jars
        self._folder = folder
        self._properties = folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        self._properties.write_text(
            _PROPERTIES.format(
                port=port,
                controller_port=controller_port,
                behind=behind,
                proxied=self.proxy.port,
                data=folder / "data",
            )
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # Joined by "=": an id may begin with "-".
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(self._properties)]
        done = subprocess.run(self._java(*tool), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the storage could not be formatted:\n{done.stdout}{done.stderr}")

    def _java(self, *command: str) -> list[str]:
        options = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *options, quiet, "-cp", f"{self._jars}/*", *command]

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers.

        Raises:
            RuntimeError: it ended instead; says what it wrote.
        """
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._answers, what="the broker")

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException  # noqa: PLC0415
        from confluent_kafka.admin import AdminClient  # noqa: PLC0415

        assert self._process is not None
        if self._process.poll() is not None:
            written = (self._folder / "broker.log").read_text(errors="replace")
            raise RuntimeError(f"the broker ended:\n{written[-3000:]}")
        try:
            return bool(
                AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
                .list_topics(timeout=1)
                .brokers
            )
        except KafkaException:
            return False

    def kill(self) -> None:
        """End it as a crash does; what it had written to its files is there."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in peace, or after a while by force. Safe to call twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                pass
            self.kill()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A running broker. In CI it must be there; elsewhere its tests are skipped without it."""
    jars = find()
    if jars is None:
        reason = f"no Kafka in {jars_folder()}: `python tests/servers/kafka.py` fetches it with Maven"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    server = KafkaServer(jars, tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.proxy.close()


if __name__ == "__main__":
    print(install())
