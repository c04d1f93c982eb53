// The boundary as C sees it. authz/native/boundary.py declares the same; both change with ABI_VERSION.
#ifndef AUTHZ_ABI_H
#define AUTHZ_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ABI_VERSION 4

// Where an export leaves what it has to say. What does not fit into `data` waits under `pending` for AuthzTake.
typedef struct {
  uint8_t *data;
  size_t capacity;
  size_t size;
  int32_t status; // 0 ok, 1 undefined, 2 error (JSON)
  uint64_t pending;
} authz_result;

// Takes the answer for the program; 0 if the deadline was first. Never blocks, so it needs no GIL hand-over.
int32_t AuthzClaim(int32_t *claim);

#endif
