#include "abi.h"

#include <stdlib.h>

int32_t AuthzClaim(int32_t *claim) {
  int32_t open = 0;
  return claim != NULL && __atomic_compare_exchange_n(claim, &open, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

int32_t AuthzGrow(authz_call *call, size_t size) {
  uint8_t *grown = realloc(call->buffer, size);
  if (grown == NULL) return 0;
  call->buffer = grown;
  call->capacity = size;
  return 1;
}

void AuthzInvoke(authz_callback callback, authz_call *call) { callback(call); }
