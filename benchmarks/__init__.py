"""vncgate beside other relays, measured in one run: `make bench` (minutes) and `make bench-full` (half an hour).

What is compared (peers.py):

    c            relay.c: receives and sends, and nothing else. The limit.
    haproxy      HAProxy, plain TCP
    websockify   the reference of the field; forks for each connection
    vncgate      `vncgate run TOKENS --config FILE`, with the settings that it comes with
    guarded      the same with `access = "seat"`: viewers have a session's cookie, and the gate logs in to the desktops.
                 Its banner is the gate's own; from ServerInit on its path is vncgate's, and should cost the same

The first two are pipes: the viewer speaks RFB over TCP through them. The others get RFB in websocket frames.

Each run starts the relay anew, lets viewers (player.c) reach desktops (desktop.c) through it, and reads what it used:
CPU of its whole process tree from the kernel (processes.py), memory as PSS. In pinned workloads the relay has the first
core to itself (vncgate: `workers = 1`), viewers and desktops share the second; else everybody may use all cores. All
peers have their turn in each round, and the order moves on from round to round, so that drift hits all alike. What the
load itself used of its core is kept beside each figure ("load"); above 85 % the figure may be the load's and not the
relay's, and is marked.

Viewers are in C because a player in Python saturates its core before the relay does; through_apache.py alone plays
`vncgate rehearse`, which speaks TLS.

To repeat a figure by hand, for example the CPU of a class of 200 (`python -m benchmarks --show` prints these lines for
every run, as they are started):

    cc -O2 -o /tmp/desktop benchmarks/desktop.c; cc -O2 -o /tmp/player benchmarks/player.c -lm
    cc -O2 -o /tmp/relay benchmarks/relay.c
    tail -f /dev/null | taskset -c 1 /tmp/desktop 15001                    # one more shell each
    taskset -c 0 /tmp/relay 15000 15001
    (sleep 5; echo mark; sleep 1) | taskset -c 1 /tmp/player -a -n 200 -r 20 -j 32 15000
    cat /proc/$(pidof relay)/stat                                          # fields 14 to 17, in hundredths of a second

    python -m benchmarks --only class-200 --rounds 3 --peers vncgate,c     # the same by machine; nothing is written
    python -m benchmarks --list                                            # all workloads
"""
