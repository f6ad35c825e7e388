;; Reads /inputs/poem.txt, writes it to standard output and to /outputs/copy.txt.
;; WASI hands over opened folders in the order in which the job names them: 3 is /inputs, 4 is /outputs.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "poem.txt")
  (data (i32.const 96) "copy.txt")

  ;; Opens a file below a folder; the program ends with the error as its exit code where that fails.
  (func $open (param $folder i32) (param $name i32) (param $length i32) (param $flags i32) (param $rights i64)
    (result i32)
    (local $error i32)
    (local.set $error
      (call $path_open (local.get $folder) (i32.const 0) (local.get $name) (local.get $length) (local.get $flags)
        (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 16)))
    (if (local.get $error) (then (call $proc_exit (local.get $error))))
    (i32.load (i32.const 16)))

  (func (export "_start")
    (local $in i32) (local $out i32)
    (local.set $in (call $open (i32.const 3) (i32.const 64) (i32.const 8) (i32.const 0) (i64.const 2)))
    (local.set $out (call $open (i32.const 4) (i32.const 96) (i32.const 8) (i32.const 9) (i64.const 64)))
    (i32.store (i32.const 0) (i32.const 1024))
    (block $end
      (loop $next
        (i32.store (i32.const 4) (i32.const 65536))
        (br_if $end (call $fd_read (local.get $in) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $end (i32.eqz (i32.load (i32.const 8))))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (drop (call $fd_write (local.get $out) (i32.const 0) (i32.const 1) (i32.const 12)))
        (br $next)))))
