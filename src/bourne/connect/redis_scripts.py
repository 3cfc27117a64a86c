"""What Redis itself does for a sink: Lua scripts, of which each happens wholly or not at all.

Law: rows and position change in one script. A change that is too large for one is staged first, in a list that nobody
reads; then one script sets the position and says that the list is `applying`; then its parts are applied, each taken off
the list in the script that writes its rows. So what is staged counts from one moment on, and whoever opens the sink after
a crash finishes it (`apply`) or, before that moment, drops it (`drop`). No part is applied twice.

Redis logs (`appendonly yes`) and replays the writes of a script as one transaction, or none of them.

A part is a flat list of texts: what its rows are (`hash`, `json`, `stream`), how many columns and how many gone keys, the
names of the columns, those keys, and the rows: each its key and its values, '=' before each, nothing at all for NULL. A row
of `json` is its key and one text.
"""

from __future__ import annotations

from typing import Final

_COMMON: Final = """
local function held(field) return redis.call('HGET', KEYS[1], field) or '' end

local function part(list, from)
  local form, columns, gone = list[from], tonumber(list[from + 1]), tonumber(list[from + 2])
  local names, at = from + 2, from + 3 + columns
  for i = at, at + gone - 1 do redis.call('UNLINK', list[i]) end
  at = at + gone
  if form == 'json' then
    for i = at, #list, 2 do redis.call('SET', list[i], list[i + 1]) end
    return
  end
  for i = at, #list, columns + 1 do
    local fields = {}
    for c = 1, columns do
      local value = list[i + c]
      if value ~= '' then
        fields[#fields + 1] = list[names + c]
        fields[#fields + 1] = string.sub(value, 2)
      end
    end
    if form == 'hash' then
      redis.call('UNLINK', list[i])
      redis.call('HSET', list[i], unpack(fields))
    else
      redis.call('XADD', list[i], '*', unpack(fields))
    end
  end
end

local function staged(id) return KEYS[1] .. ':' .. id end

local function is_moved(before) return held('position') ~= before or held('applying') ~= '' end
"""

# Each answers {'ok', …}, or {'moved', the position that is held} having changed nothing.

WRITE: Final = (  # sink, before, position, part
    _COMMON
    + """
if is_moved(ARGV[2]) then return {'moved', held('position')} end
redis.call('HSET', KEYS[1], 'sink', ARGV[1])  -- refused if memory is full, which UNLINK is not
part(ARGV, 4)
redis.call('HSET', KEYS[1], 'position', ARGV[3])
return {'ok'}
"""
)

BEGIN: Final = (  # before, id
    _COMMON
    + """
if is_moved(ARGV[1]) then return {'moved', held('position')} end
if held('staging') ~= '' then redis.call('UNLINK', staged(held('staging'))) end
redis.call('HSET', KEYS[1], 'staging', ARGV[2])
return {'ok'}
"""
)

STAGE: Final = (  # id, how many parts came before, part
    _COMMON
    + """
if held('staging') ~= ARGV[1] or redis.call('LLEN', staged(ARGV[1])) ~= tonumber(ARGV[2]) then
  return {'moved', held('position')}
end
local list = {}
for i = 3, #ARGV do list[i - 2] = ARGV[i] end
redis.call('RPUSH', staged(ARGV[1]), cmsgpack.pack(list))
return {'ok'}
"""
)

COMMIT: Final = (  # sink, before, position, id, how many parts
    _COMMON
    + """
local is_whole = held('staging') == ARGV[4] and redis.call('LLEN', staged(ARGV[4])) == tonumber(ARGV[5])
if is_moved(ARGV[2]) or not is_whole then return {'moved', held('position')} end
redis.call('HSET', KEYS[1], 'sink', ARGV[1], 'position', ARGV[3], 'applying', ARGV[4])
redis.call('HDEL', KEYS[1], 'staging')
return {'ok'}
"""
)

APPLY: Final = (  # nothing; answers how many parts are left
    _COMMON
    + """
local id = held('applying')
if id == '' then return {'ok', 0} end
local packed = redis.call('LINDEX', staged(id), 0)
if packed then
  part(cmsgpack.unpack(packed), 1)
  redis.call('LPOP', staged(id))
end
local left = redis.call('LLEN', staged(id))
if left == 0 then redis.call('HDEL', KEYS[1], 'applying') end
return {'ok', left}
"""
)

DROP: Final = (  # nothing
    _COMMON
    + """
if held('staging') ~= '' then
  redis.call('UNLINK', staged(held('staging')))
  redis.call('HDEL', KEYS[1], 'staging')
end
return {'ok'}
"""
)
