-- What a session's key holds: a byte that says whether an owner's list has it (2) or not (1), the
-- length of all in 4 bytes, with 2 the mark of its entry there in 16; and the record as bytes.
-- Times are 8 bytes, which Lua's numbers can't hold: two numbers each. Nothing is compared by `<` as
-- strings, since that goes by the server's locale.

local unpack_numbers, pack_numbers = struct.unpack, struct.pack

-- Whether the first time is later than the second.
local function later(a, b)
  local a_high, a_low = unpack_numbers('>I4I4', a)
  local b_high, b_low = unpack_numbers('>I4I4', b)
  return a_high > b_high or (a_high == b_high and a_low > b_low)
end

-- How many bytes stand before the record, and where its entries begin, if these begin a live session of
-- `length` bytes.
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

-- Changes nothing. After a write of any kind, a script may write although the server is out of memory.
local function lift_memory_limit(key)
  local left = redis.call('PTTL', key)
  if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('PERSIST', key) end
end

local last = string.rep('\255', 9)

-- Makes the entry of a session in an owner's list, in place of an older one. Returns a few other
-- entries whose sessions should have ended by `stale`, if there are many.
local function enter(list, key, stamp, ttl, stale)
  local entries = redis.pcall('ZRANGEBYLEX', list, '[' .. key, '(' .. key .. last)
  -- What is of another type is no list.
  if entries.err then redis.call('DEL', list) end
  for _, entry in ipairs(entries) do
    redis.call('ZREM', list, entry)
  end
  redis.call('ZADD', list, 0, key .. stamp)
  if redis.call('PTTL', list) < tonumber(ttl) then redis.call('PEXPIRE', list, ttl) end
  local old = {}
  if redis.call('ZCARD', list) > 16 then
    -- Keys are random: the neighbours are a sample.
    local near = redis.call('ZRANGEBYLEX', list, '(' .. key .. last, '+', 'LIMIT', 0, 4)
    if #near == 0 then near = redis.call('ZRANGEBYLEX', list, '-', '(' .. key, 'LIMIT', 0, 4) end
    for _, entry in ipairs(near) do
      if #entry == 20 and later(stale, entry:sub(13)) then old[#old + 1] = entry end
    end
  end
  return old
end
