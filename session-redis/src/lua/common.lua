-- A session is a string: a byte that is 2 if the session has an entry in an owner's list and 1 otherwise,
-- the length of the string in 4 bytes, with 2 the mark of that entry in 16 bytes, and the record.
-- Times have 8 bytes, more than a number of Lua holds, so each is split into two numbers. Strings are
-- never compared with `<`, because that goes by the server's locale.

local unpack_numbers, pack_numbers = struct.unpack, struct.pack

-- Whether the first time is later than the second.
local function later(a, b)
  local a_high, a_low = unpack_numbers('>I4I4', a)
  local b_high, b_low = unpack_numbers('>I4I4', b)
  return a_high > b_high or (a_high == b_high and a_low > b_low)
end

-- Takes the first bytes of a string of this length. Returns how many bytes precede the record, and where the
-- record's entries begin; nil if the string is no live session.
local function live(bytes, length, now)
  if type(bytes) ~= 'string' or #bytes < 94 then return nil end
  local layout = bytes:byte(1)
  local before = (layout == 1 and 5) or (layout == 2 and 21)
  if not before or #bytes < before + 89 or unpack_numbers('>I4', bytes, 2) ~= length
      or bytes:byte(before + 1) ~= 1 or not later(bytes:sub(before + 58, before + 65), now) then
    return nil
  end
  local owner_length, label_length = unpack_numbers('>I4I4', bytes, before + 78)
  if layout == 1 then
    if owner_length ~= 4294967295 or label_length ~= 0 then return nil end
    return before, before + 90
  end
  local first = before + 90 + owner_length + label_length
  if first > length + 1 then return nil end
  return before, first
end

-- Sets the key's timer to what it is. After a first write, a script may write even if the server is out of memory.
local function lift_memory_limit(key)
  local left = redis.call('PTTL', key)
  if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('PERSIST', key) end
end

local last = string.rep('\255', 9)

-- Makes the entry of a session in an owner's list, in place of an older one. If the list has more than 16
-- entries, returns those of four others whose sessions should have ended by `stale`.
local function enter(list, key, stamp, ttl, stale)
  local entries = redis.pcall('ZRANGEBYLEX', list, '[' .. key, '(' .. key .. last)
  -- A key of another type is no list.
  if entries.err then redis.call('DEL', list) end
  for _, entry in ipairs(entries) do
    redis.call('ZREM', list, entry)
  end
  redis.call('ZADD', list, 0, key .. stamp)
  if redis.call('PTTL', list) < tonumber(ttl) then redis.call('PEXPIRE', list, ttl) end
  local old = {}
  if redis.call('ZCARD', list) > 16 then
    -- Keys are random, so the neighbours are a random sample.
    local near = redis.call('ZRANGEBYLEX', list, '(' .. key .. last, '+', 'LIMIT', 0, 4)
    if #near == 0 then near = redis.call('ZRANGEBYLEX', list, '-', '(' .. key, 'LIMIT', 0, 4) end
    for _, entry in ipairs(near) do
      if #entry == 20 and later(stale, entry:sub(13)) then old[#old + 1] = entry end
    end
  end
  return old
end
