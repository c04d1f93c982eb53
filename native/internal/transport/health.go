package transport

import (
	"context"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// SetServing is the program's word on whether it can decide.
func (s *Server) SetServing(serving bool) {
	s.mutex.Lock()
	s.serving = serving
	s.mutex.Unlock()
	s.updateHealth()
}

// updateHealth says SERVING only while the program says so and not too many of its threads are stuck.
func (s *Server) updateHealth() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if s.serving && s.counters.stuck.Load() < s.options.StuckLimit {
		state = healthpb.HealthCheckResponse_SERVING
	}
	for _, service := range []string{"", authorization, processor} {
		s.health.SetServingStatus(service, state)
	}
}

// healthService ends its watchers when the server drains; they would hold the drain up otherwise.
type healthService struct {
	*health.Server
	drained <-chan struct{}
}

// Watch implements the health service.
func (h *healthService) Watch(request *healthpb.HealthCheckRequest, watcher healthpb.Health_WatchServer) error {
	ctx, release := context.WithCancel(watcher.Context())
	defer release()
	go func() {
		select {
		case <-h.drained:
			release()
		case <-ctx.Done():
		}
	}()
	return h.Server.Watch(request, watch{watcher, ctx})
}

type watch struct {
	healthpb.Health_WatchServer
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (w watch) Context() context.Context { return w.ctx }
