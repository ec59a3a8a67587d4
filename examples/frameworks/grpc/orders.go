package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pghub/pghub"
)

// orders is the service of orders.proto.
type orders struct{ hub *pghub.Hub }

// ordersServer is what the description below calls.
type ordersServer interface {
	Watch(*emptypb.Empty, grpc.ServerStreamingServer[structpb.Struct]) error
}

var watchDesc = grpc.StreamDesc{
	StreamName:    "Watch",
	ServerStreams: true,
	Handler: func(server any, stream grpc.ServerStream) error {
		in := new(emptypb.Empty)
		if err := stream.RecvMsg(in); err != nil {
			return err
		}
		return server.(ordersServer).Watch(in, &grpc.GenericServerStream[emptypb.Empty, structpb.Struct]{ServerStream: stream})
	},
}

// ordersDesc is what protoc-gen-go-grpc would make of orders.proto.
var ordersDesc = grpc.ServiceDesc{
	ServiceName: "pghub.example.Orders",
	HandlerType: (*ordersServer)(nil),
	Streams:     []grpc.StreamDesc{watchDesc},
	Metadata:    "orders.proto",
}

// watch is the client's side, as protoc-gen-go-grpc would make it.
func watch(ctx context.Context, conn grpc.ClientConnInterface) (grpc.ServerStreamingClient[structpb.Struct], error) {
	stream, err := conn.NewStream(ctx, &watchDesc, "/pghub.example.Orders/Watch")
	if err != nil {
		return nil, err
	}
	s := &grpc.GenericClientStream[emptypb.Empty, structpb.Struct]{ClientStream: stream}
	if err := s.SendMsg(&emptypb.Empty{}); err != nil {
		return nil, err
	}
	return s, s.CloseSend()
}

// Watch runs on the goroutine of the call. A client that does not read makes Send wait, and no one else: its own queue fills up, and
// then it has a lag.
func (o orders) Watch(_ *emptypb.Empty, stream grpc.ServerStreamingServer[structpb.Struct]) error {
	for ev := range o.hub.Events(stream.Context(), "orders") {
		if ev.Advisory != nil {
			if err := advise(ev.Advisory, stream); err != nil {
				return err
			}
			continue
		}
		message, err := messageOf(ev)
		if err != nil {
			return status.Error(codes.Internal, "an order that cannot be read")
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	return status.FromContextError(stream.Context().Err()).Err()
}

// advise tells the client what happens to its stream: an error ends it.
func advise(a *pghub.Advisory, stream grpc.ServerStream) error {
	switch a.Action {
	case pghub.ActionSubscribe: // in effect: from now on nothing is missed
		return stream.SendHeader(metadata.Pairs("subscribed", a.Topic))
	case pghub.ActionReconnect, pghub.ActionLag:
		return status.Error(codes.Aborted, "changes may be missing: watch again, then fetch again")
	case pghub.ActionStop: // another process may be there
		return status.Error(codes.Unavailable, "the server stops")
	case pghub.ActionClose:
		if a.Err != nil {
			return status.Error(codes.Unavailable, "no subscription")
		}
	}
	return nil // disconnect: the client learns of it when there is something to fetch
}

func messageOf(ev *pghub.Event) (*structpb.Struct, error) {
	var value map[string]any
	if ev.Value != nil {
		if err := ev.Decode(&value); err != nil {
			return nil, err
		}
	}
	key := make([]any, len(ev.Key))
	for i, k := range ev.Key {
		key[i] = k // a number of JSON: exact up to 2⁵³
	}
	return structpb.NewStruct(map[string]any{"key": key, "value": value})
}
