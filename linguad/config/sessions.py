"""Settings of sessions."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from linguad.config.base import GIB, KIB, LIVE, MIB, Table


class Sessions(Table, frozen=True, kw_only=True):
    """Clients that speak: how speech is cut into utterances and how results go back."""

    max_message_bytes: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=64 * MIB,
            description="Longest message of a client; a longer one closes its socket with 1009. 16 MiB "
            "holds six minutes of 16 kHz PCM16 in base64, far more than an utterance may have.",
        ),
    ] = 16 * MIB
    pause_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=600_000,
            description="Silence after which an utterance is cut although the client did not end it. 3000 "
            "as in the earlier server: shorter cuts people off while they think. 0 never cuts "
            "so.",
        ),
    ] = 3000
    max_duration_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=600_000,
            description="Longest utterance; longer speech is cut into slices. 10000: real nodes gather 10 s "
            "before they work, and the first words are translated while the person still "
            "speaks. 0 never cuts so.",
        ),
    ] = 10_000
    max_utterance_bytes: Annotated[
        int,
        LIVE,
        Meta(
            ge=1000,
            le=64 * MIB,
            description="Largest audio of one utterance; more is cut. 512000, as in the earlier server, is "
            "16 s of PCM16 and bounds what one client can make the daemon hold.",
        ),
    ] = 512_000
    padding_manual_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=5000,
            description="Silence the node is asked to append after an utterance that the client ended. 280, "
            "as in the earlier server: a recogniser may lose the last word of speech that ends "
            "abruptly.",
        ),
    ] = 280
    padding_auto_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=5000,
            description="The same after an utterance that the server cut by pause or length. 220: such "
            "audio already ends in some silence.",
        ),
    ] = 220
    final_reorder_grace_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=1000,
            description="How long after a final a late audio chunk still belongs to it. 40 covers clients "
            "that send the final before the last chunk; more would be heard as delay.",
        ),
    ] = 40
    short_merge_threshold_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=5000,
            description="Shorter audio is held and precedes the next utterance instead of being one. 400: "
            "web clients end pieces of 260 ms again and again while nobody speaks. 0 holds nothing.",
        ),
    ] = 400
    short_hold_cap_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=10_000,
            description="Most audio that is held so. Of more, the oldest silence is dropped; if it is not "
            "silence, it becomes an utterance. 2000 is more silence than any word begins with.",
        ),
    ] = 2000
    short_release_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=5000,
            description="When held audio that is not silence is translated although nothing follows, counted "
            'from its final. 300: a short "yes" is answered soon, and endless short pieces, which come '
            "every 256 ms, are gathered.",
        ),
    ] = 300
    silence_packet_bytes: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=1275,
            description="Held Opus audio is silence if its packets have so many bytes on average, or fewer. "
            "12: the encoder makes 8 or 9 of no sound at all, 30 and more of faint noise and of speech.",
        ),
    ] = 12
    silence_rms: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=1,
            description="Held PCM16 audio is silence if it is so loud or less; root mean square, 1 is full "
            "scale. 0.003 is what web clients take for the end of speech.",
        ),
    ] = 0.003
    burst_cuts: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=10_000,
            description="Utterances that finals and pauses of a session may make at once; beyond it the "
            "audio waits for the next one. 30 is more than anybody says while the network stands still. "
            "0 sets no limit.",
        ),
    ] = 30
    cuts_per_second: Annotated[
        float,
        LIVE,
        Meta(
            ge=0.1,
            le=1000,
            description="So many more per second. 4, as often as web clients send at all.",
        ),
    ] = 4
    gap_timeout_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=100,
            le=120_000,
            description="How long later results wait for a missing earlier one. 2950: with the rest of its "
            "way a lost sentence delays the next by no more than 3 s; a result that comes later is still "
            "delivered, marked as late.",
        ),
    ] = 2950
    late_result_window_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=600_000,
            description="How long after its job has ended a result is still delivered. 30000: after half a "
            "minute the conversation has moved on.",
        ),
    ] = 30_000
    max_undelivered_results: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=100_000,
            description="Most results of a session that wait for an earlier one; beyond it the oldest gap "
            "is given up. 128 is twenty minutes of unbroken speech; with max_open_utterances it "
            "stays below outbound_queue_messages, because all may leave at once.",
        ),
    ] = 128
    detach_grace_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=86400,
            description="How long a session outlives its socket, for clients that can resume. 30 covers a "
            "change of network, and nobody waits longer for a page to recover.",
        ),
    ] = 30
    gateway_detach_grace_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=86400,
            description="The same for sessions of the API gateway. 600, because its callers send one "
            "sentence per call and the session must still be there for the next.",
        ),
    ] = 600
    utterance_reorder_wait_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=10_000,
            description="How long an `utterance` message waits for one with a lower index. 300 is longer "
            "than messages of one client overtake each other, and short in a conversation.",
        ),
    ] = 300
    error_throttle_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=600_000,
            description="Shortest time between two error notices of the same kind to one session. 5000: a "
            "person reads one notice, not one per sentence.",
        ),
    ] = 5000
    outbound_queue_messages: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most messages that wait for a client to read; one more closes its socket with "
            "1013. 256 is minutes of conversation: such a client is gone.",
        ),
    ] = 256
    outbound_queue_bytes: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=GIB,
            description="The same in bytes. 32 MiB holds the longest results with speech and bounds what "
            "one client that does not read can pin.",
        ),
    ] = 32 * MIB
    max_open_utterances: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=10_000,
            description="Most utterances of a session that wait for their result; more are refused with "
            "NODE_OVERLOADED at once. 64 is ten minutes of speech in slices: who has more "
            "waiting is not talking with anybody.",
        ),
    ] = 64
    max_chunk_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=1,
            le=3600,
            description="Most audio in one message, s; of a chunk the rest is dropped, a longer `utterance` "
            "is refused. 600: paused web clients flush minutes at once, and more would keep "
            "everybody else waiting.",
        ),
    ] = 600
    max_sessions: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=10_000_000,
            description="Most sessions, with those that have lost their socket and may come back; one more "
            "is refused and closed with 1013. 20000 is twice what one daemon is tested with. 0 "
            "sets no limit.",
        ),
    ] = 20_000
    max_sessions_per_address: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=10_000_000,
            description="The same for one address (of IPv6 one /64 network). 2000, because a whole office "
            "may share an address; proxies in server.trusted_proxies name the true one, and "
            "trusted_sources have no such limit. 0 sets none.",
        ),
    ] = 2000
    max_rooms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most rooms at once. 10000 is half of max_sessions: a room has two members or more "
            "when it is of use. 0 allows none.",
        ),
    ] = 10_000
    max_room_members: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=100,
            description="Most members of a room. 10, because web clients connect each with each for raw "
            "voice, and each language that somebody listens in is a job for every utterance.",
        ),
    ] = 10
    room_idle_minutes: Annotated[
        float,
        LIVE,
        Meta(
            ge=1,
            le=1440,
            description="After so long without speech a room ends and its code may be given to another. 30 "
            "as in the earlier server.",
        ),
    ] = 30
    binary_frames: Annotated[
        bool,
        LIVE,
        Meta(
            description="Offer binary audio frames to every client, not only to those that ask for them. "
            "false, as the earlier server; true saves a quarter of the upload of web clients."
        ),
    ] = False
    mobile_burst_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=10_000,
            description="Whole `utterance` messages of mobile clients that are shorter than this are pieces "
            "of one, up to a pause. 1000: they send one every 200 ms while somebody speaks. 0 takes each as "
            "it is.",
        ),
    ] = 1000
    resume_results: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=10_000,
            description="Results kept for a client that can resume and has not acknowledged them. 128, as "
            "many as may wait in order; never more than half of outbound_queue_messages.",
        ),
    ] = 128
    resume_bytes: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=2**31,
            description="Bytes of these. 2 MiB is six minutes of speech in Opus; beyond it the oldest go, "
            "and a client that needs them begins anew. Never more than a 16th of outbound_queue_bytes.",
        ),
    ] = 2 * 1024 * 1024
    group_window_ms: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=600_000,
            description="Utterances within so long after the one before, or after its playback, belong "
            "together: they share a `group_id`, and nodes get the text before as context. 2000 as in the "
            "earlier server.",
        ),
    ] = 2000
    group_max_parts: Annotated[
        int,
        LIVE,
        Meta(ge=1, le=100, description="Most utterances of a group that are given as context. 8 as before."),
    ] = 8
    context_max_chars: Annotated[
        int,
        LIVE,
        Meta(
            ge=0,
            le=20_000,
            description="Longest context text. 800, enough for some sentences; 0 gives nodes none.",
        ),
    ] = 800
    hint_language: Annotated[
        Literal["en", "zh"],
        LIVE,
        Meta(
            description="Language of the `hint` in notices to people; both languages are always sent beside "
            "it. `en`, the language of all texts of this server."
        ),
    ] = "en"
    trusted_sources: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks (CIDR) of gateways of your own. Only from these does `tenant_id` choose "
            "whose turn it is in the waiting room; everybody else is the built-in tenant "
            "`direct`, because anybody can write a name into a message."
        ),
    ] = ()
