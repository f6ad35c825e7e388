// A whole job by generated stubs: add an input, submit, watch, read the output, fetch the result.
//
//	go run . 127.0.0.1:1234
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "example/bacalhau/v1"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address string) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	jobs, ipfs := pb.NewJobServiceClient(connection), pb.NewIpfsServiceClient(connection)

	cid, err := add(ctx, ipfs, "pear\napple\nfig\n")
	if err != nil {
		return err
	}
	fmt.Println("input", cid)

	// Submit a job that sorts it.
	spec := &pb.JobSpec{
		Task:   &pb.JobSpec_Docker{Docker: &pb.DockerTask{Image: "ubuntu", Command: []string{"sort", "/inputs/fruit.txt"}}},
		Inputs: []*pb.InputSource{{Cid: cid, Target: "/inputs/fruit.txt"}},
	}
	submitted, err := jobs.SubmitJob(ctx, &pb.SubmitJobRequest{Spec: spec})
	if err != nil {
		return err
	}
	job := submitted.Job

	// Watch it until it ends: the last event comes with the job in full.
	watch, err := jobs.WatchJob(ctx, &pb.WatchJobRequest{JobId: job.Id})
	if err != nil {
		return err
	}
	err = each(watch, func(watched *pb.WatchJobResponse) {
		for _, event := range watched.Events {
			fmt.Println(event.Type, event.Message)
		}
		if watched.Job != nil {
			job = watched.Job
		}
	})
	if err != nil {
		return err
	}

	// What the program wrote; with Follow and while it runs, as it writes it.
	logs, err := jobs.StreamLogs(ctx, &pb.StreamLogsRequest{JobId: job.Id})
	if err != nil {
		return err
	}
	if err := each(logs, func(piece *pb.StreamLogsResponse) { os.Stdout.Write(piece.Data) }); err != nil {
		return err
	}

	// The result is a folder in IPFS: stdout, stderr, exitCode, and a folder for each output.
	for _, execution := range job.Executions {
		report := execution.Report
		content, err := ipfs.Get(ctx, &pb.GetRequest{Path: report.ResultCid + "/stdout"})
		if err != nil {
			return err
		}
		var stdout []byte
		if err := each(content, func(answer *pb.GetResponse) { stdout = append(stdout, answer.GetChunk()...) }); err != nil {
			return err
		}
		fmt.Printf("result %s exit code %d %q\n", report.ResultCid, report.ExitCode, stdout)
	}
	return nil
}

// add stores a file: a stream of headers, each followed by the chunks of its content.
func add(ctx context.Context, ipfs pb.IpfsServiceClient, content string) (string, error) {
	stream, err := ipfs.Add(ctx)
	if err != nil {
		return "", err
	}
	parts := []*pb.AddRequest{
		{Part: &pb.AddRequest_Entry{Entry: &pb.EntryHeader{Type: pb.EntryType_ENTRY_TYPE_FILE}}},
		{Part: &pb.AddRequest_Chunk{Chunk: []byte(content)}},
	}
	for _, part := range parts {
		if err := stream.Send(part); err != nil {
			return "", err
		}
	}
	added, err := stream.CloseAndRecv()
	if err != nil {
		return "", err
	}
	return added.Cid, nil
}

// each calls handle with every message of a stream.
func each[T any](stream grpc.ServerStreamingClient[T], handle func(*T)) error {
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		handle(message)
	}
}
