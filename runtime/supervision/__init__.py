"""One run of a container: the process that stands between it and the world, and what looks after many at once.

launch       seen from the caller                      job           what a supervisor is to do
supervisor   the process in between                    settingup     from the first mount to the first instruction
joined       its place in a network                    hastening     a wait in the kernel, begun early
duties, healthchecks   what it does beside waiting     restarts      whether it is started again
stdio        what the container prints and reads
reception, attachments   who talks to a supervisor     attach        the caller's side of that
rebuilding   errors, from process to process
ending       what is done when it has ended
monitor, watching   what looks after quiet containers  requests      what it is asked for
sleeping     what it is left with                      forsaken      what its supervisors had not taken over
polling, failures   how it goes on whatever fails
"""
