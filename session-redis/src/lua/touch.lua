-- Arguments: 1 now, 2 the last use and the expiry, 3 the session's TTL in milliseconds.
local key, now = KEYS[1], ARGV[1]
local head = redis.pcall('GETRANGE', key, 0, 109)
local before = type(head) == 'string' and live(head, redis.call('STRLEN', key), now)
if not before then return 0 end
local used, expires = head:sub(before + 50, before + 57), head:sub(before + 58, before + 65)
local new_used, new_expires = ARGV[2]:sub(1, 8), ARGV[2]:sub(9, 16)
local extends = later(new_expires, expires)
if not later(new_used, used) then
  if not extends then return 1 end
  new_used = used
end
if extends then
  redis.call('PEXPIRE', key, ARGV[3])
else
  new_expires = expires
  lift_memory_limit(key)
end
redis.call('SETRANGE', key, before + 49, new_used .. new_expires)
if before == 21 and later(new_expires, head:sub(14, 21)) then
  local length = unpack_numbers('>I4', head, before + 78)
  local owner = redis.call('GETRANGE', key, before + 89, before + 88 + length)
  return { 1, {}, '', '', owner, head:sub(6, 13) }
end
return 1
