"""Every bound in one place, each with its reason."""

from __future__ import annotations

from typing import Final

# A frame must fit its 32-bit length field, and a reader maps it whole; 64 MiB keeps both far away and is
# large enough that per-frame costs vanish.
FRAME_BYTES_MAX: Final = 64 << 20

# A view's epoch is one frame, so its output may be larger than a log's frame; the 32-bit field is the bound.
EPOCH_BYTES_MAX: Final = (1 << 32) - 256

# Rows per frame when a large table is appended: about 20-60 MB of usual rows.
FRAME_ROWS_MAX: Final = 1 << 20

# A segment is the unit of retention; 256 MiB keeps the number of files small and a recovery scan short.
SEGMENT_BYTES_MAX: Final = 256 << 20

# Rows of a cold segment are read a row group at a time: about this size before they are compressed.
COLD_GROUP_BYTES: Final = 32 << 20

# Appends that wait for the same sync share a frame if each is small, up to about this size.
SMALL_APPEND_BYTES: Final = 64 << 10
GROUP_FRAME_BYTES: Final = 1 << 20

# With durability "interval", what a power cut can take: the appends of this long, in seconds.
SYNC_INTERVAL_S: Final = 0.1

# How long an append waits for other processes' appends to the same log, in seconds: each holds the lock for one
# group. A writer that keeps the lock (a running view) does not give it back soon: no use to wait.
LOCK_WAIT_S: Final = 30.0
LOCK_WAIT_EXCLUSIVE_S: Final = 0.5

# How long who wrote for several threads waits at most until they have come again, in seconds: about a sync.
GATHER_S: Final = 0.0003

# How long one process goes on with its own threads' appends before it lets others at the log, in seconds.
LOCK_HOLD_S: Final = 0.005

# Request ids that are remembered per partition: of calls, and of rows where a column holds them. About 200 bytes each
# in memory, so 13 MB and 50 MB at most.
REQUEST_IDS_MAX: Final = 1 << 16
REQUEST_ROWS_MAX: Final = 1 << 18
REQUEST_ID_CHARS_MAX: Final = 200

# Each partition is a folder, a file lock and, in a reader, an open file.
PARTITIONS_MAX: Final = 1024

# What a proof shows of a frame: a record that fills its frame (64 MiB), twice over. It is checked in memory.
PROOF_BYTES_MAX: Final = 128 << 20

# Only closed segments are compacted: the last one of a log that is to be is closed at this size.
COMPACT_BYTES_MIN: Final = 8 << 20

# A tombstone outlives what it stands for by this long, so that readers that are behind come to see it.
TOMBSTONE_KEEP_US: Final = 24 * 3600 * 1_000_000

# How often a running app looks whether old segments are to be deleted, compacted or made cold, in seconds.
MAINTAIN_INTERVAL_S: Final = 30.0

# Extra facts of one frame (positions, request ids): JSON that a person may want to read.
META_BYTES_MAX: Final = 1 << 20

# Event times: what is outside stands for no time (year 1 and 9999 for "not known", "for ever"), and must not move a
# watermark. From the year 1000 to the end of 2899, in microseconds since 1970.
TIME_FIRST_US: Final = -30_610_224_000_000_000
TIME_END_US: Final = 29_348_006_400_000_000

# Rows that one epoch takes in. It starts small, so that a small append is seen at once, and doubles while
# there is a backlog, so that the output of hot keys is consolidated before it is written.
EPOCH_ROWS_MIN: Final = 1 << 16
EPOCH_ROWS_MAX: Final = 1 << 22

# Bytes that one epoch takes in, about: its columns are worked on in memory, several times over.
EPOCH_INPUT_BYTES_MAX: Final = 256 << 20

# Rows between two snapshots of a view: what a restart may have to compute again at most (a second or two).
SNAPSHOT_ROWS: Final = 1 << 23

# A user's weight, of either sign: sums of 2^32 records of it still fit 64 bits.
WEIGHT_MAX: Final = (1 << 31) - 1

# Equal rows that a query is given one by one: 2 GB of the narrowest rows.
COPIES_MAX: Final = 1 << 28

# Group numbers live in 32 bits of an index slot.
GROUPS_MAX: Final = (1 << 32) - 2

# Names become folder names and SQL identifiers.
NAME_CHARS_MAX: Final = 64

# One line from a socket or standard input; longer ones are refused, so that a client cannot fill the memory.
LINE_BYTES_MAX: Final = 1 << 20

# Lines taken in before they are appended as one batch (a source exerts back-pressure beyond it).
SOURCE_LINES_MAX: Final = 1 << 14

# The same bound for long lines, which would fill the memory before they are many.
SOURCE_BYTES_MAX: Final = 16 << 20

# Clients of one listening source: each is a thread.
CLIENTS_MAX: Final = 256

# What a file is read and parsed in: large enough that an fsync per batch does not show, small beside any memory.
FILE_BATCH_BYTES: Final = 16 << 20

# One record of a text file; a quote that is never closed must not read a whole file into memory.
FILE_RECORD_BYTES_MAX: Final = 64 << 20

# Records of one batch that do not fit and are left out: each costs some conversions of its own.
MISFITS_MAX: Final = 10_000

# How often a watched folder is listed, in seconds.
FOLDER_LOOK_S: Final = 1.0

# How long a file has to lie still before it counts as finished, in seconds, unless it is declared otherwise.
SETTLE_S: Final = 2.0

# Small files that share an append: their names are in its meta part.
FILES_PER_APPEND_MAX: Final = 100

# The share of dead letters is that among the last so many records: a few bad ones at the start are no rate yet.
DEAD_RATE_RECORDS: Final = 1_000

# How long who cannot reach the other side waits before the next try: doubled each time, up to the second, in seconds.
RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 15.0

# How long a run that is to end when it has caught up tries to reach the other side, in seconds.
RETRY_UNTIL_CAUGHT_UP_S: Final = 30.0

# How often a source says that it has nothing, so that it can be stopped, and a running one's status is written.
SOURCE_LOOK_S: Final = 0.1
STATUS_INTERVAL_S: Final = 1.0

# What a sink gets at once, about: whole frames of the view.
DELIVERY_BYTES: Final = 32 << 20

# How long the end of a run waits for all sources and sinks that are busy with the other side, in seconds.
CLOSE_WAIT_S: Final = 5.0

# A table's file is read whole, and its first version is one frame.
TABLE_BYTES_MAX: Final = 1 << 30

# SQL nests at most this deep: each level is a few Python frames when a plan is read.
SQL_DEPTH_MAX: Final = 150

# How often a running app asks its sources for records, and who waits for appends looks where the system does not
# tell of them, in seconds.
POLL_INTERVAL_S: Final = 0.005

# How long a sink waits for a lock that another process holds, in seconds, before it says that the other side is not there.
SINK_LOCK_WAIT_S: Final = 1.0

# How long the other side of a connection may say nothing, in seconds, before it counts as gone: longer than a busy server
# or a failover usually takes. A URL may say less or more: `?silence=5`.
SILENCE_S: Final = 30.0
SILENCE_S_MAX: Final = 3600.0

# How long who is stopped tries to tell a server that it need not go on, in seconds.
LET_GO_S: Final = 1.0

# So many files of about one size in a folder become one, unless they are larger than this: readers open each of them.
SINK_FILES_MIN: Final = 16
SINK_SMALL_FILE_BYTES: Final = 32 << 20
# Changes of a database handed over at once: large enough that fixed costs vanish, small beside memory and a frame.
POSTGRES_ROWS_MAX: Final = 1 << 16
POSTGRES_BYTES_MAX: Final = 16 << 20

# A table without a key is taken over in one frame, as one could not go on in its middle: half a frame of text.
POSTGRES_WHOLE_BYTES_MAX: Final = 32 << 20

# Keys of which PostgreSQL is asked at once where they lie in its order: a statement of some megabytes.
POSTGRES_KEYS_MAX: Final = 1 << 14

# WAL that a slot holds back before `lag` warns: it fills the disk of the database.
POSTGRES_WAL_WARNING_BYTES: Final = 1 << 30

# How long connecting may take, in seconds.
POSTGRES_CONNECT_S: Final = 10

# How often the server is told of what is durable, asked for its state, and told (in an own frame) that nothing has come.
POSTGRES_STATUS_S: Final = 1.0
POSTGRES_HEALTH_S: Final = 5.0
POSTGRES_HEARTBEAT_S: Final = 10.0

# Rows of an outbox handed over at once: their ids are in the position, which has to stay small.
OUTBOX_ROWS_MAX: Final = 1000
OUTBOX_ID_CHARS_MAX: Final = 200

# One body that is pushed over HTTP, also when it is unpacked: parsed, it takes some ten times as much. Files are for more.
HTTP_BODY_BYTES_MAX: Final = 16 << 20

# What all bodies of one server that are in work may have, and how many they may be: more are told to come again.
HTTP_BYTES_MAX: Final = 64 << 20
HTTP_REQUESTS_MAX: Final = 128

# Records of one body: each has a value in every column of the log, whatever it says itself.
HTTP_RECORDS_MAX: Final = 1 << 20

# An Arrow body, when rows that share a value (dictionaries, views) have each their own.
HTTP_ARROW_BYTES_MAX: Final = 4 * HTTP_BODY_BYTES_MAX

# Threads that parse and append. They mostly wait for the disk, and share its syncs.
HTTP_WORKERS: Final = 16

# Connections of one server: each is an open file. Beyond that, all are told to come again.
HTTP_CONNECTIONS_MAX: Final = 512

# How long a body may take to come, a connection may lie idle, and the end waits for what is in work, in seconds.
HTTP_BODY_S: Final = 60.0
HTTP_IDLE_S: Final = 30
HTTP_STOP_S: Final = 5.0

# A position as text: some dozen logs with many partitions.
POSITION_CHARS_MAX: Final = 1 << 16

# The newest frames of a view that are remembered to find where several views stand together, and how far they are read
# rather than skipped: views that are further apart meet again when they have caught up.
CUT_FRAMES_MAX: Final = 256
CUT_READ_BYTES_MAX: Final = 8 << 20

# How the last builds of views' versions ended is kept for who asked for them; it is read with each query.
BUILD_OUTCOMES_MAX: Final = 8

# Rows that are shown of a difference between two versions, and how long each may be, in characters.
DIFFERENCE_ROWS_MAX: Final = 3
DIFFERENCE_CHARS_MAX: Final = 200

# How long who asks for a position waits for it, in seconds: by default, and at most.
AT_LEAST_S: Final = 5.0
AT_LEAST_S_MAX: Final = 30.0

# A condition that a stranger asks for.
CONDITION_CHARS_MAX: Final = 10_000
CONDITION_WORDS_MAX: Final = 2_000

# Rows of one answer: by default, and at most.
SERVED_ROWS: Final = 1_000
SERVED_ROWS_MAX: Final = 100_000

# What a feed of a view keeps ready for all of its subscribers: the last commits with what they mean to each selection,
# snapshots that are not large, the keys that selections hold. Who needs more reads the log, so much of it at once.
FEED_BYTES_MAX: Final = 64 << 20
FEED_COMMITS_MAX: Final = 1_000
FEED_SNAPSHOT_BYTES: Final = 8 << 20
FEED_SNAPSHOTS_BYTES: Final = 32 << 20
FEED_KEYS_MAX: Final = 500_000
FEED_CATCH_UP_BYTES: Final = 4 << 20

# Subscriptions of one view that differ in more than the value of a column: each is asked about each commit.
FEED_ASKED_MAX: Final = 256

# What a subscriber who is behind gets at once, about, and how many of such parts are kept for others who are as far behind.
FEED_BATCH_CHARS: Final = 128 << 10
FEED_BATCHES_MAX: Final = 16

# How long one subscriber keeps the server busy with one commit, about, in seconds: so often at most all are told.
FEED_PACE_S: Final = 50e-6

# How often subscribers are told of a position without changes, and, without any news, that all is well, in seconds.
FEED_POSITION_S: Final = 1.0
FEED_SIGN_S: Final = 15.0

# How often is looked whether a client that follows may still do so, in seconds: its token may be revoked.
STREAM_LOOK_S: Final = 5.0

# One event: large enough that its frame does not show, small beside memory; rows of a snapshot that are written at once.
EVENT_BYTES: Final = 256 << 10
EVENT_ROWS: Final = 2_000

# How long the head of a request may take to come, in seconds; how many connections may have none in work, beside those
# that have only just come.
SERVE_HEAD_S: Final = 10.0
SERVE_NEW_S: Final = 1.0
SERVE_WAITING_MAX: Final = 512

# How large the head of a request may be: a long condition of letters that a URL spells as nine characters each.
SERVE_HEAD_BYTES_MAX: Final = 128 << 10

# Connections of the server of views, each an open file; beyond that all are told to come again.
SERVE_CONNECTIONS_MAX: Final = 4_096

# How long a client may take nothing of what is sent to it, in seconds.
SERVE_TAKE_S: Final = 30.0

# What the system keeps of what was sent to one client and not taken yet: by default it would be megabytes.
SERVE_SEND_BUFFER_BYTES: Final = 256 << 10

# Answers of all clients that are held until they are taken; and what one client may have not taken of what it asked for
# beside its answers (a WebSocket's pongs), and in how many fragments it may send one message.
SERVE_UNSENT_BYTES_MAX: Final = 256 << 20
SERVE_PONG_BYTES_MAX: Final = 1 << 20
SERVE_FRAGMENTS_MAX: Final = 1_000

# Requests of one address in a second, and at once; addresses that are remembered for it.
SERVE_RATE: Final = 5_000
SERVE_RATE_BURST: Final = 10_000
SERVE_CLIENTS_MAX: Final = 10_000

# Threads that read views and logs for requests.
SERVE_WORKERS: Final = 8

# Requests that wait for a position; subscriptions, and those of one client.
SERVE_WAITERS_MAX: Final = 256
SERVE_SUBSCRIBERS_MAX: Final = 3_000
SERVE_SUBSCRIBERS_OF_ONE: Final = 2_000

# Runs of jobs, chunks and messages in one answer; runs at work at once of which requests may begin another one.
SERVED_RUNS: Final = 50
SERVED_RUNS_MAX: Final = 1_000
SERVED_RUNS_AT_WORK: Final = 32

# The newest runs of a job that a list of jobs shows, and what it says of an error, in characters: the run says all.
RUNS_SHOWN: Final = 20
RUN_ERROR_SHOWN_CHARS: Final = 300

# The body of a question.
SERVE_BODY_BYTES_MAX: Final = 1 << 20
SERVE_BODY_S: Final = 10.0

# Queries that are answered at once, and that wait for it, and how long; of one client, so that the others have room.
# How long each may take, in seconds, and how large its answer is.
QUERIES_AT_ONCE: Final = 4
QUERIES_WAITING_MAX: Final = 64
QUERIES_WAIT_S: Final = 30.0
QUERIES_AT_ONCE_OF_ONE: Final = 3
QUERIES_WAITING_OF_ONE: Final = 48
QUERY_S: Final = 30.0
QUERY_ANSWER_BYTES_MAX: Final = 64 << 20

# Parentheses of a query within each other: DuckDB's parser takes seconds and gigabytes for thousands of them.
QUERY_DEPTH_MAX: Final = 200

# Memory of the process that answers queries: of DuckDB, and, a share of the machine's, of all in it. At least so much.
QUERY_DUCKDB_BYTES: Final = 1 << 30
QUERY_PROCESS_BYTES_MIN: Final = 3 << 30

# When who was told to come again is to do so, in seconds.
HTTP_RETRY_AFTER_S: Final = 1

# How often a client asks at most, if the server is not there or busy, and how long it heeds one that asks for a pause,
# in seconds. The pauses between are `RETRY_S_MIN` and so on.
CLIENT_ATTEMPTS: Final = 6
CLIENT_RETRY_AFTER_S_MAX: Final = 300.0

# How long a client waits for a connection, for an answer beyond what it asked the server to wait, and for any sign of life
# in a stream (three that did not come), in seconds.
CLIENT_CONNECT_S: Final = 10.0
CLIENT_ANSWER_S: Final = 60.0
CLIENT_SILENCE_S: Final = 45.0

# Tokens of a data folder: each request's is compared with all of them, which takes some microseconds then.
TOKENS_MAX: Final = 1000

# A chunk of a batch job: what is in memory a few times over (read, processed, on its way), and is done again after a
# crash. By default one takes about a second: the other side's commit then costs little, and a stop is quick.
CHUNK_BYTES_MAX: Final = 64 << 20
CHUNK_ROWS_MAX: Final = 1 << 20
CHUNK_ROWS_FIRST: Final = 10_000
CHUNK_S: Final = 1.0

# A run that has not given a sign of life for so long is taken for dead, in seconds, and how often it gives one.
LEASE_S: Final = 30.0
HEARTBEAT_S: Final = 2.0

# Steps of one job that run side by side at most, and of one job at all: a person wants to read its picture.
STEPS_AT_ONCE_MAX: Final = 16
STEPS_MAX: Final = 500

# What an error of a run says at most in its history, in characters.
RUN_ERROR_CHARS_MAX: Final = 20_000

# A step's name is a part of what its position is kept under, in every database that it writes to.
STEP_NAME_CHARS_MAX: Final = 60

# Of a text file without declared columns a job looks at so much before it begins: more would take longer than the job.
INFERENCE_BYTES_MAX: Final = 32 << 20

# How long a slice of a part of a chunk step lasts on an executor, in seconds: then it is asked for again. So a stop is
# noticed, and what a worker that died had in hand is small.
SLICE_S: Final = 5.0

# Each slot of a pool is a file that is tried for.
POOL_SLOTS_MAX: Final = 1000
# The shortest interval of a schedule, in seconds: each run costs a few syncs, and what is quicker is a view's work.
SCHEDULE_INTERVAL_S_MIN: Final = 1

# Times of one schedule that are made up for at one look, the oldest first; the rest comes with the next look.
FIRES_DUE_MAX: Final = 1_000

# The largest `catch_up` by number: each time is found by some dozen questions, going back from now.
CATCH_UP_FIRES_MAX: Final = 1_000

# How long the history remembers runs that ended, and how often a process that begins runs of a job looks for older ones, in
# seconds.
HISTORY_KEEP: Final = "90 days"
HISTORY_FORGET_S: Final = 3600.0

# Runs that schedules have at work at once, all in all: by default, and at most. Each is a thread or a process.
SCHEDULED_RUNS: Final = 4
SCHEDULED_RUNS_MAX: Final = 256

# How often is looked whether something is due, has happened or has ended, in seconds.
SCHEDULER_LOOK_S: Final = 1.0

# Fires of one schedule that wait: beyond that its time stands still, and what is too late then is missed.
FIRES_WAITING_MAX: Final = 10_000

# Finished fires of one schedule that are remembered, and how often older ones are forgotten, in seconds. What is forgotten
# cannot be told from what never was, so a clock that is turned back does not bring those times again.
FIRES_KEPT: Final = 10_000
FIRES_FORGET_S: Final = 3600.0

# Finished calls of one schedule that are remembered, as requests of a log are: an older one that is repeated is a new one.
CALLS_KEPT: Final = 1 << 16

# The id of a call: a request's own, or a UUID.
CALL_ID_CHARS_MAX: Final = 200

# How often a run is begun that cannot be for a reason that may pass (the disk, a lock), a look each.
FIRE_START_TRIES: Final = 10

# How often one run is begun again after its process died: by then it is what kills it.
FIRE_LOST_MAX: Final = 20

# How long is waited for another process that writes to the history of jobs, in seconds.
FIRES_LOCK_WAIT_S: Final = 30.0

# Rows of a query that are read at once, at first (nobody knows how long they are) and at most: so many, or of so many bytes.
QUERY_PAGE_ROWS_FIRST: Final = 4_096
QUERY_PAGE_ROWS: Final = CHUNK_ROWS_MAX // 8
QUERY_PAGE_BYTES: Final = 16 << 20

# Instances of one backfill: thirty years of days.
BACKFILL_INSTANCES_MAX: Final = 11_000

# How long is waited for the answer of a slice, in seconds, before it is asked for again: twice as long each time in a row. A
# chunk that takes longer than that is written by who is first.
SLICE_PATIENCE_S: Final = 30.0

# How often in a row the worker of one part may be lost, without a chunk in between: by then it is the step that kills it.
LOST_SLICES_MAX: Final = 10

# Processes of one step on this machine; more than 61 Windows cannot wait for.
PROCESSES_MAX: Final = 61
