// Package main is the c-shared library behind authz/native.py: OPA as engine, grpc-go as transport, and the barrier
// between a record and its answer. It only translates between the C boundary and the packages in internal/.
//
// It must never let a panic cross the boundary, keep memory of the other side after a call, install signal handlers, or
// fork. It trusts its one caller, authz/native.py, to pass pointers and sizes that belong together.
package main

func main() {}
