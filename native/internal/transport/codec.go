package transport

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// frame is a message that stays bytes: it is parsed once, by the program.
type frame struct{ bytes []byte }

// codec passes frames through and leaves every other message (health, reflection) to protobuf's own codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	if raw, ok := message.(*frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw.bytes)}, nil
	}
	return c.CodecV2.Marshal(message)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(content mem.BufferSlice, message any) error {
	if raw, ok := message.(*frame); ok {
		raw.bytes = content.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(content, message)
}
