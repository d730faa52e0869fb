-- Arguments: 1 now, 2 the expected holder, 3 the new holder and the time of the new secret, 4 "e" (extend) or
-- "s" (set) with the last use and the expiry, 5 the session's TTL in milliseconds, 6 the cookie's fingerprint,
-- 7 "-", or "+" with the new login, 8 and 9 the limits of bytes and keys, 10 the number of keys if all are
-- replaced, 11 the changed entries, 12 the expected ones, 13 "1" if an earlier attempt may have been applied,
-- 14 to 17 as `enter` takes them. An empty argument changes nothing. A deleted or absent entry has the greatest
-- length.
local key = KEYS[1]
local none = 4294967295
local bytes = redis.pcall('GET', key)
if type(bytes) ~= 'string' then return 0 end
local before, first = live(bytes, #bytes, ARGV[1])
if not before then return 0 end
local holder, renewed = bytes:sub(before + 2, before + 33), bytes:sub(before + 42, before + 49)
local secret = ARGV[3]
if holder ~= ARGV[2] then
  if secret == '' or holder ~= secret:sub(1, 32) then return 0 end
  if ARGV[13] == '1' then return 1 end
end

local owner_length, _, count = unpack_numbers('>I4I4I4', bytes, before + 78)
local is_owned = before == 21

-- The changed entries and the expected ones, by key; false stands for no value.
local fresh, pending = {}, 0
local function read(list, wanted)
  local entries, at = {}, 1
  while at <= #list do
    local key_length, value_length = unpack_numbers('>I4I4', list, at)
    local value_at = at + 8 + key_length
    local name, after, entry = list:sub(at + 8, value_at - 1), value_at, false
    if value_length ~= none then
      after = value_at + value_length
      entry = list:sub(at, after - 1)
    end
    if entries[name] == nil then
      pending = pending + 1
    elseif entries[name] ~= entry then
      return nil
    end
    entries[name] = entry
    if not wanted then fresh[#fresh + 1] = name end
    at = after
  end
  return entries
end
local replaces = ARGV[10] ~= ''
local edits = replaces and {} or read(ARGV[11], false)
local wanted = read(ARGV[12], true)
if not wanted then return 2 end

-- The changed entries are put between the stretches that are kept.
local size = #bytes - first + 1 - 8 * count
local new_size, new_count = size, count
local parts, kept, at = {}, first, first
while pending > 0 and at <= #bytes do
  if at + 7 > #bytes then return 0 end
  local key_length, value_length = unpack_numbers('>I4I4', bytes, at)
  local after = at + 8 + key_length + value_length
  if after > #bytes + 1 then return 0 end
  local name = bytes:sub(at + 8, at + 7 + key_length)
  local expected, edit = wanted[name], edits[name]
  if expected ~= nil then
    if expected ~= bytes:sub(at, after - 1) then return 2 end
    wanted[name] = nil
    pending = pending - 1
  end
  if edit ~= nil then
    parts[#parts + 1] = bytes:sub(kept, at - 1)
    if edit then
      parts[#parts + 1] = edit
      new_size = new_size + #edit - (after - at)
    else
      new_size = new_size - key_length - value_length
      new_count = new_count - 1
    end
    kept = after
    edits[name] = nil
    pending = pending - 1
  end
  at = after
end
for _, expected in pairs(wanted) do
  if expected then return 2 end
end
parts[#parts + 1] = bytes:sub(kept)
local entries = table.concat(parts)

if replaces then
  entries, new_count = ARGV[11], tonumber(ARGV[10])
  new_size = #entries - 8 * new_count
elseif pending > 0 then
  -- Inserts the new keys, which are sorted, at their places among the sorted others.
  local function less(a, b)
    for i = 1, math.min(#a, #b) do
      local x, y = a:byte(i), b:byte(i)
      if x ~= y then return x < y end
    end
    return #a < #b
  end
  local next_fresh = 0
  local function take()
    repeat next_fresh = next_fresh + 1 until not fresh[next_fresh] or edits[fresh[next_fresh]]
    return fresh[next_fresh]
  end
  local name, added = take(), {}
  kept, at = 1, 1
  while name and at <= #entries do
    local key_length, value_length = unpack_numbers('>I4I4', entries, at)
    local other = entries:sub(at + 8, at + 7 + key_length)
    while name and less(name, other) do
      added[#added + 1] = entries:sub(kept, at - 1)
      added[#added + 1] = edits[name]
      kept = at
      new_size, new_count = new_size + #edits[name] - 8, new_count + 1
      name = take()
    end
    at = at + 8 + key_length + value_length
  end
  added[#added + 1] = entries:sub(kept)
  while name do
    added[#added + 1] = edits[name]
    new_size, new_count = new_size + #edits[name] - 8, new_count + 1
    name = take()
  end
  entries = table.concat(added)
end
if new_size > tonumber(ARGV[8]) and new_size > size then return 3 end
if new_count > tonumber(ARGV[9]) and new_count > count then return 4 end

local used, expires = bytes:sub(before + 50, before + 57), bytes:sub(before + 58, before + 65)
local is_moved = false
local times = ARGV[4]
if times ~= '' then
  local new_used, new_expires = times:sub(2, 9), times:sub(10, 17)
  if later(new_used, used) then used = new_used end
  if new_expires ~= expires and (times:byte(1) == 115 or later(new_expires, expires)) then
    expires, is_moved = new_expires, true
  end
end
if secret ~= '' then holder, renewed = secret:sub(1, 32), secret:sub(33, 40) end
local cookie = ARGV[6] ~= '' and ARGV[6] or bytes:sub(before + 74, before + 77)

local mark, at_login = bytes:sub(6, before), bytes:sub(before + 66, before + 73)
local lengths, texts = bytes:sub(before + 78, before + 85), bytes:sub(before + 90, first - 1)
local owner, login = is_owned and texts:sub(1, owner_length) or '', ARGV[7]
local left, left_stamp = '', ''
if login ~= '' then
  local new_owner
  if login == '-' then
    mark, at_login, lengths, texts = '', string.rep('\0', 8), '\255\255\255\255\0\0\0\0', ''
  else
    mark, at_login, lengths, texts =
      login:sub(2, 17), login:sub(18, 25), login:sub(26, 33), login:sub(34)
    new_owner = texts:sub(1, unpack_numbers('>I4', lengths))
  end
  if is_owned and owner ~= new_owner then left, left_stamp = owner, bytes:sub(6, 13) end
  owner = new_owner or ''
end

local record = table.concat({
  '\1', holder, bytes:sub(before + 34, before + 41), renewed, used, expires, at_login, cookie, lengths,
  pack_numbers('>I4', new_count), texts, entries,
})
local layout = mark == '' and '\1' or '\2'
local new = layout .. pack_numbers('>I4', 5 + #mark + #record) .. mark .. record
local function set()
  if is_moved then return redis.pcall('SET', key, new, 'PX', ARGV[5]) end
  return redis.pcall('SET', key, new, 'KEEPTTL')
end
local old = KEYS[2] and enter(KEYS[2], ARGV[14], ARGV[15], ARGV[16], ARGV[17])
local done = set()
if done.err and #new <= #bytes then
  lift_memory_limit(key)
  done = set()
end
if done.err then return done end

local extends = mark ~= '' and later(expires, mark:sub(9, 16))
if left_stamp == '' and not extends and not old then return 1 end
return { 1, old or {}, left, left_stamp, extends and owner or '', extends and mark:sub(1, 8) or '', expires }
