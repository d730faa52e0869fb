-- Arguments: 1 the session's key, 2 the stamp, 3 the list's TTL in milliseconds, 4 the stale time.
return { 1, enter(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) }
