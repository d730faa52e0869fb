-- The session's key, stamp, milliseconds to keep the list, stale time.
return { 1, enter(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) }
