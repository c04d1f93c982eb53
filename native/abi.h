// The boundary as C sees it. authz/native.py declares the same; both change with ABI_VERSION.
#ifndef AUTHZ_ABI_H
#define AUTHZ_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ABI_VERSION 2

// Where an export leaves what it has to say. What does not fit into `data` waits under `pending` for AuthzTake.
typedef struct {
  uint8_t *data;
  size_t capacity;
  size_t size;
  int32_t status; // 0 ok, 1 undefined, 2 error (JSON)
  uint64_t pending;
} authz_result;

// One question to the program. Its pointers are good until the callback returns.
typedef struct {
  uint32_t kind;
  uint64_t stream;
  const uint8_t *request;
  size_t request_size;
  const uint8_t *reason;
  size_t reason_size;
  const uint8_t *record;
  size_t record_size;
  int32_t *claim;
  // The reply: framed answers (length as 4 bytes, little-endian, before each), then the record.
  uint8_t *buffer;
  size_t capacity;
  size_t answers_size;
  size_t reply_record_size;
  uint64_t sequence;
  int32_t allow;
  int32_t end;
  int32_t replied;
} authz_call;

typedef void (*authz_callback)(authz_call *call);

// Takes the answer for the program; 0 if the deadline was first. Never blocks, so it needs no GIL hand-over.
int32_t AuthzClaim(int32_t *claim);

// Makes the reply's buffer hold `size` bytes; 0 if there is no memory.
int32_t AuthzGrow(authz_call *call, size_t size);

void AuthzInvoke(authz_callback callback, authz_call *call);

#endif
