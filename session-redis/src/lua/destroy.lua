local key = KEYS[1]
local head = redis.pcall('GETRANGE', key, 0, 1133)
redis.call('DEL', key)
if type(head) == 'string' and #head >= 110 and head:byte(1) == 2 then
  local length = unpack_numbers('>I4', head, 99)
  return { 1, {}, head:sub(111, 110 + length), head:sub(6, 13), '', '' }
end
return 1
