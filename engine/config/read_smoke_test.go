package config
import ("testing";"path/filepath";"fmt";"os")
func TestSmoke(t *testing.T){
 fs,_:=filepath.Glob("../testdata/blocks/*.yaml")
 bad:=0
 for _,f:=range fs{
  d,err:=ReadFiles([]string{f},nil,Options{Env: func(string)(string,bool){return "",false}})
  if err!=nil{ bad++; fmt.Println("FAIL",f); fmt.Print(err.(Faults).Render()); continue}
  if os.Getenv("V")!=""{ fmt.Println(f); fmt.Print(d.Warnings.Render()); b,_:=d.Dump(DumpOptions{}); fmt.Println(string(b))}
 }
 fmt.Println(len(fs),bad)
}
