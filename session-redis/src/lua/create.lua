-- Arguments: 1 now, 2 the string to store, 3 its TTL in milliseconds, 4 the holder if an earlier attempt may
-- have stored it. With an owner, the second key is the owner's list, and 5 to 8 are as `enter` takes them.
local key, now = KEYS[1], ARGV[1]
local there = redis.pcall('GET', key)
local before = type(there) == 'string' and live(there, #there, now)
if before then
  return there:sub(before + 2, before + 33) == ARGV[4] and 1 or 0
end
local old = KEYS[2] and enter(KEYS[2], ARGV[5], ARGV[6], ARGV[7], ARGV[8]) or {}
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
return { 1, old }
