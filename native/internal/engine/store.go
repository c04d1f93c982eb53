package engine

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

func storagePath(ref ast.Ref) (storage.Path, error) { return storage.NewPathForRef(ref) }

func exists(store storage.Store, path storage.Path) bool {
	_, err := storage.ReadOne(context.Background(), store, path)
	return err == nil
}
