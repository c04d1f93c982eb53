package main

import (
	"encoding/binary"
	"errors"
	"time"
	"unsafe"

	"authz/native/internal/transport"
)

// What passes between the server and a thread of the program in one turn: events one way, words the other, each a head
// and its contents. Numbers are little-endian. authz/native/program.py reads and writes the same.

// An event's head: number, stream and the claim's address as 8 bytes each; kind, status and the sizes of three contents
// (the request or result; the reason; the record) as 4 bytes each.
const eventHead = 3*8 + 5*4

// evaluated is the kind of an event that brings a result; the others are those of transport.Kind.
const evaluated = 5

// A word's head: number as 8 bytes; what is said, flags and the sizes of two contents as 4 bytes each; a sequence number
// or query, and a deadline in nanoseconds, as 8 bytes each.
const wordHead = 8 + 4*4 + 2*8

const (
	saysNothing = iota
	saysReply
	asksQuestion
)

const (
	flagAllow = 1 << iota
	flagEnd
)

var (
	order    = binary.LittleEndian
	errWords = errors.New("the program's words are cut short")
)

// appendEvent writes one event. The claim stays where it is until the call is concluded, so that both sides can swap it.
func appendEvent(to []byte, event transport.Event) []byte {
	call := event.Call
	to = order.AppendUint64(to, call.Number)
	to = order.AppendUint64(to, call.Stream)
	if result := event.Result; result != nil {
		return appendContents(order.AppendUint64(to, 0), evaluated, result.Status, result.Content, nil, nil)
	}
	to = order.AppendUint64(to, uint64(uintptr(unsafe.Pointer(&call.Claim))))
	return appendContents(to, int(call.Kind), 0, call.Request, []byte(call.Reason), call.Record)
}

func appendContents(to []byte, kind, status int, contents ...[]byte) []byte {
	to = order.AppendUint32(to, uint32(kind))
	to = order.AppendUint32(to, uint32(status))
	for _, content := range contents {
		to = order.AppendUint32(to, uint32(len(content)))
	}
	for _, content := range contents {
		to = append(to, content...)
	}
	return to
}

// readWords reads what a thread says; the contents stay where they are.
func readWords(said []byte) (words []transport.Word, err error) {
	for len(said) > 0 {
		if len(said) < wordHead {
			return words, errWords
		}
		head, rest := said[:wordHead], said[wordHead:]
		first, second := uint64(order.Uint32(head[16:])), uint64(order.Uint32(head[20:]))
		if first+second > uint64(len(rest)) {
			return words, errWords
		}
		words = append(words, readWord(head, rest[:first:first], rest[first:first+second:first+second]))
		said = rest[first+second:]
	}
	return words, nil
}

func readWord(head, first, second []byte) transport.Word {
	word := transport.Word{Number: order.Uint64(head)}
	flags, value := order.Uint32(head[12:]), order.Uint64(head[24:])
	switch order.Uint32(head[8:]) {
	case asksQuestion:
		word.Question = &transport.Question{Query: value, Input: first, Deadline: time.Duration(order.Uint64(head[32:]))}
	case saysReply:
		if answers, whole := unframe(first); whole {
			word.Reply = &transport.Reply{
				Answers: answers, Record: second, Sequence: value, Allow: flags&flagAllow != 0, End: flags&flagEnd != 0,
			}
		}
	}
	return word
}

func unframe(framed []byte) (answers [][]byte, whole bool) {
	for len(framed) >= 4 {
		size := uint64(order.Uint32(framed))
		if size > uint64(len(framed)-4) {
			return nil, false
		}
		answers = append(answers, framed[4:4+size])
		framed = framed[4+size:]
	}
	return answers, len(framed) == 0
}
