#include "abi.h"

int32_t AuthzClaim(int32_t *claim) {
  int32_t open = 0;
  return claim != NULL && __atomic_compare_exchange_n(claim, &open, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
