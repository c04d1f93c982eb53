package transport

import (
	"context"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	authorization = "envoy.service.auth.v3.Authorization"
	processor     = "envoy.service.ext_proc.v3.ExternalProcessor"
)

// register puts the two services of Envoy beside health and, if asked for, reflection. Anything else is UNIMPLEMENTED.
func (s *Server) register() error {
	s.grpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: authorization,
		Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: s.check}},
		Metadata:    "envoy/service/auth/v3/external_auth.proto",
	}, nil)
	s.grpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: processor,
		Streams:     []grpc.StreamDesc{{StreamName: "Process", Handler: s.process, ServerStreams: true, ClientStreams: true}},
		Metadata:    "envoy/service/ext_proc/v3/external_processor.proto",
	}, nil)
	healthpb.RegisterHealthServer(s.grpc, &healthService{Server: s.health, drained: s.drained})
	if len(s.options.Descriptors) == 0 {
		return nil
	}
	return s.reflect()
}

func (s *Server) reflect() error {
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(s.options.Descriptors, set); err != nil {
		return err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return err
	}
	options := reflection.ServerOptions{Services: s.grpc, DescriptorResolver: files}
	// Most clients still ask for v1alpha first.
	reflectionv1.RegisterServerReflectionServer(s.grpc, reflection.NewServerV1(options))
	reflectionv1alpha.RegisterServerReflectionServer(s.grpc, reflection.NewServer(options))
	return nil
}

func (s *Server) check(_ any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	request := &frame{}
	if err := receive(request); err != nil {
		// Too large, or not whole by the deadline (slow loris): limits of the transport, like the number of streams.
		s.counters.incomplete.Add(1)
		return nil, err
	}
	reply := s.exchange(ctx, newCall(Check, 0, request.bytes, s.options.Fallback))
	if len(reply.Answers) == 0 {
		return nil, errTooMany
	}
	return &frame{bytes: reply.Answers[0]}, nil
}
