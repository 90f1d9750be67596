#include "spec.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"

enum tag {
  TAG_ARGV = 1,
  TAG_ENV,
  TAG_CWD,
  TAG_SCRIPT,
  TAG_KILL_AFTER,
  TAG_IDLE,
  TAG_GRACE,
  TAG_DRAIN,
  TAG_DESCENDANTS,
  TAG_STDIN,
  TAG_TERMINAL,
  TAG_VERB,
  TAG_AUX,
  TAG_UMASK,
  TAG_USER,
  TAG_PATH = 20,
  TAG_FLAGS,
  TAG_OFFSET,
  TAG_LENGTH,
  TAG_MODE,
  TAG_EXPECTED,
  TAG_PRUNE,
  TAG_DEPTH_MAX,
  TAG_ENTRIES_MAX,
  TAG_CONTENT_MAX,
  TAG_FILE_MAX,
  TAG_TO,
  TAG_PROBE = 40,
  TAG_COUNT,
};

enum { HEADER = 5, ANY = 0xffff };

/* The length each tag must have; ANY is a string without NUL, but for the script and probes. */
static const uint16_t lengths[TAG_COUNT] = {
    [TAG_ARGV] = ANY,       [TAG_ENV] = ANY,      [TAG_CWD] = ANY,        [TAG_SCRIPT] = ANY,     [TAG_KILL_AFTER] = 4,
    [TAG_IDLE] = 4,         [TAG_GRACE] = 4,      [TAG_DRAIN] = 4,        [TAG_DESCENDANTS] = 1,  [TAG_STDIN] = 1,
    [TAG_TERMINAL] = 4,     [TAG_VERB] = 1,       [TAG_AUX] = 1,          [TAG_UMASK] = 4,        [TAG_USER] = 8,
    [TAG_PATH] = ANY,       [TAG_FLAGS] = 1,      [TAG_OFFSET] = 8,       [TAG_LENGTH] = 8,       [TAG_MODE] = 4,
    [TAG_EXPECTED] = 32,    [TAG_PRUNE] = ANY,    [TAG_DEPTH_MAX] = 4,    [TAG_ENTRIES_MAX] = 8,  [TAG_CONTENT_MAX] = 8,
    [TAG_FILE_MAX] = 8,     [TAG_TO] = ANY,        [TAG_PROBE] = ANY,
};

static bool is_repeated(uint8_t tag) {
  return tag == TAG_ARGV || tag == TAG_ENV || tag == TAG_PATH || tag == TAG_PRUNE || tag == TAG_PROBE;
}

/* First pass: the frame of it all, before a byte is changed. */
static const char *check(const uint8_t *p, const uint8_t *end, uint32_t counts[TAG_COUNT]) {
  while (p < end) {
    if (end - p < HEADER) {
      return "truncated field";
    }
    uint8_t tag = p[0];
    uint32_t length = get32(p + 1);
    p += HEADER;
    if (tag >= TAG_COUNT || lengths[tag] == 0) {
      return "unknown tag";
    }
    if (length > (size_t)(end - p) || (lengths[tag] != ANY && length != lengths[tag])) {
      return "wrong length of a field";
    }
    if (lengths[tag] == ANY && tag != TAG_SCRIPT && tag != TAG_PROBE && memchr(p, 0, length)) {
      return "NUL in a string";
    }
    if (++counts[tag] > 1 && !is_repeated(tag)) {
      return "a field was given twice";
    }
    p += length;
  }
  return NULL;
}

static bool allocate(char ***list, uint32_t count) {
  *list = calloc((size_t)count + 1, sizeof **list);
  return *list != NULL;
}

/* The value moves one byte down, over its own length, so that its NUL fits. */
static char *take_string(uint8_t *value, uint32_t length) {
  if (length == 0) {
    value[-1] = 0;
    return (char *)value - 1;
  }
  memmove(value - 1, value, length);
  value[length - 1] = 0;
  return (char *)value - 1;
}

enum { PROBE_TCP = 1, PROBE_UDP, PROBE_ENDS = 4 /* of port and timeout */ };

/* False: it is no probe. */
static bool take_probe(struct probe *probe, const uint8_t *value, uint32_t length) {
  size_t address = length < 2 ? 0 : value[1] == 4 ? 4 : value[1] == 6 ? 16 : 0;
  if (address == 0 || length < 2 + address + PROBE_ENDS || (value[0] != PROBE_TCP && value[0] != PROBE_UDP)) {
    return false;
  }
  const uint8_t *p = value + 2 + address;
  *probe = (struct probe){.udp = value[0] == PROBE_UDP,
                          .ipv6 = address == 16,
                          .port = get16(p),
                          .timeoutMs = get16(p + 2),
                          .payload = p + PROBE_ENDS,
                          .length = length - 2 - address - PROBE_ENDS};
  memcpy(probe->address, value + 2, address);
  return probe->udp || probe->length == 0;
}

static void take(struct spec *spec, uint8_t tag, uint8_t *value, uint32_t length, uint32_t at[TAG_COUNT]) {
  switch (tag) {
    case TAG_ARGV: spec->argv[at[tag]++] = take_string(value, length); break;
    case TAG_ENV: spec->env[at[tag]++] = take_string(value, length); break;
    case TAG_PATH: spec->paths[at[tag]++] = take_string(value, length); break;
    case TAG_PRUNE: spec->prune[at[tag]++] = take_string(value, length); break;
    case TAG_CWD: spec->cwd = take_string(value, length); break;
    case TAG_TO: spec->to = take_string(value, length); break;
    case TAG_SCRIPT: spec->script = value, spec->scriptLength = length; break;
    case TAG_KILL_AFTER: spec->killAfterMs = get32(value); break;
    case TAG_IDLE: spec->idleMs = get32(value); break;
    case TAG_GRACE: spec->graceMs = get32(value); break;
    case TAG_DRAIN: spec->drainMs = get32(value); break;
    case TAG_DESCENDANTS: spec->keep = value[0] == 1; break;
    case TAG_STDIN: spec->hasStdin = value[0] == 1; break;
    case TAG_TERMINAL: spec->terminal = true, spec->columns = get16(value), spec->rows = get16(value + 2); break;
    case TAG_VERB: spec->verb = value[0]; break;
    case TAG_AUX: spec->aux = value[0] == 1; break;
    case TAG_UMASK: spec->umask = get32(value); break;
    case TAG_USER: spec->uid = get32(value), spec->gid = get32(value + 4); break;
    case TAG_FLAGS: spec->flags = value[0]; break;
    case TAG_OFFSET: spec->offset = get64(value); break;
    case TAG_LENGTH: spec->length = get64(value); break;
    case TAG_MODE: spec->hasMode = true, spec->mode = get32(value); break;
    case TAG_EXPECTED: spec->expected = value; break;
    case TAG_DEPTH_MAX: spec->depthMax = get32(value); break;
    case TAG_ENTRIES_MAX: spec->entriesMax = get64(value); break;
    case TAG_CONTENT_MAX: spec->contentMax = get64(value); break;
    case TAG_FILE_MAX: spec->fileMax = get64(value); break;
    case TAG_PROBE: spec->probeCount += take_probe(&spec->probes[at[tag]++], value, length); break;
    default: break;
  }
}

static bool has_its_paths(const struct spec *spec) {
  if (spec->verb == HAND_GATEWAY || spec->verb == HAND_PROBE) {
    return !spec->paths[0];
  }
  return spec->paths[0] && (!spec->paths[1] || spec->verb == HAND_WALK) && (spec->verb != HAND_MOVE || spec->to);
}

static const char *check_meaning(const struct spec *spec, uint32_t probes) {
  const uint32_t nobody = UINT32_MAX;
  if (spec->uid == 0 || spec->gid == 0 || spec->uid == nobody || spec->gid == nobody) {
    return "the tools' user is never root";
  }
  if (spec->cwd && spec->cwd[0] != '/') {
    return "the working directory is not absolute";
  }
  if (spec->umask > 0777 || spec->mode > 07777) {
    return "mode out of range";
  }
  if ((spec->verb == HAND_PROBE) != (probes > 0) || probes > PROBES_MAX || spec->probeCount != probes) {
    return "the verb probe takes up to 16 well-formed probes, and nothing else takes any";
  }
  if (spec->verb == HAND_NONE) {
    return spec->argv[0] && spec->argv[0][0] ? NULL : "nothing to run";
  }
  if (spec->verb >= HAND_VERBS) {
    return "unknown verb";
  }
  if (spec->argv[0] || spec->script || spec->terminal || spec->aux) {
    return "a verb takes no argv, script, terminal or aux";
  }
  if (!has_its_paths(spec)) {
    return "wrong number of paths";
  }
  return NULL;
}

const char *spec_parse(struct spec *spec, uint8_t *buffer, size_t length) {
  *spec = (struct spec){
      .graceMs = 2000,
      .drainMs = 250,
      .umask = 022,
      .uid = 10001,
      .gid = 10001,
      .length = UINT64_MAX,
      .depthMax = UINT32_MAX,
      .entriesMax = UINT64_MAX,
      .contentMax = UINT64_MAX,
      .fileMax = UINT64_MAX,
  };
  uint32_t counts[TAG_COUNT] = {0}, at[TAG_COUNT] = {0};
  const char *wrong = check(buffer, buffer + length, counts);
  if (wrong) {
    return wrong;
  }
  if (!allocate(&spec->argv, counts[TAG_ARGV]) || !allocate(&spec->env, counts[TAG_ENV]) ||
      !allocate(&spec->paths, counts[TAG_PATH]) || !allocate(&spec->prune, counts[TAG_PRUNE]) ||
      !(spec->probes = calloc((size_t)counts[TAG_PROBE] + 1, sizeof *spec->probes))) {
    return "out of memory";
  }
  for (uint8_t *p = buffer; p < buffer + length;) {
    uint8_t tag = p[0];
    uint32_t n = get32(p + 1);
    take(spec, tag, p + HEADER, n, at);
    p += HEADER + n;
  }
  return check_meaning(spec, counts[TAG_PROBE]);
}

void spec_free(struct spec *spec) {
  free(spec->argv);
  free(spec->env);
  free(spec->paths);
  free(spec->prune);
  free(spec->probes);
  *spec = (struct spec){0};
}
