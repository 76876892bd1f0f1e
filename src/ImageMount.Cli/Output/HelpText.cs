using System.Reflection;
using System.Text;
using CommandLine;

namespace ImageMount.Cli.Output;

/// <summary>`--help` for 80 columns, made from the declarations of the options.</summary>
public static class HelpText
{
    private const int Width = 79;
    private const int Column = 30;

    /// <summary>Version of the program.</summary>
    public static string Version => "imgmount " + (typeof(HelpText).Assembly
        .GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "?");

    /// <summary>Help of the whole program.</summary>
    public static string ForProgram()
    {
        var text = new StringBuilder();
        text.AppendLine("Usage: imgmount [mount] SOURCE MOUNTPOINT [options]");
        text.AppendLine("       imgmount COMMAND ...");
        text.AppendLine();
        text.AppendLine("Shows a disk image as a flat raw disk, with a file for each partition.");
        text.AppendLine();
        text.AppendLine("Commands:");
        foreach ((string verb, Type arguments) in CommandLineReader.Verbs)
        {
            Row(text, "  " + verb, arguments.GetCustomAttribute<VerbAttribute>()!.HelpText, 12);
        }

        text.AppendLine();
        text.AppendLine("Examples:");
        text.AppendLine("  imgmount disk.vmdk /mnt/x              then: mount -o loop /mnt/x/p1 /mnt/fs");
        text.AppendLine("  imgmount disk.qcow2 /mnt/x --read-only look, change nothing");
        text.AppendLine("  imgmount disk.qcow2 /mnt/x --snapshot  try something, keep nothing");
        text.AppendLine("  imgmount umount /mnt/x                 returns when the image is safe");
        text.AppendLine("  imgmount info --json disk.vmdk");
        text.AppendLine();
        text.AppendLine("Exit codes: 0 done, 1 failed, 2 wrong usage. More: imgmount COMMAND --help");
        text.AppendLine();
        text.AppendLine("Options of mount:");
        Options(text, CommandLineReader.Verbs[0].Arguments);
        return text.ToString();
    }

    /// <summary>Help of one command.</summary>
    public static string ForVerb(string verb)
    {
        Type arguments = CommandLineReader.Verbs.First(v => v.Verb == verb).Arguments;
        var text = new StringBuilder("Usage: imgmount ").Append(verb == "mount" ? "[mount]" : verb);
        PropertyInfo[] properties = arguments.GetProperties();
        ValueAttribute[] values =
        [
            .. properties.Select(p => p.GetCustomAttribute<ValueAttribute>()).OfType<ValueAttribute>()
                .Where(v => !v.Hidden).OrderBy(v => v.Index),
        ];
        foreach (ValueAttribute value in values)
        {
            text.Append(' ').Append(value.MetaName);
        }

        text.AppendLine(" [options]").AppendLine();
        Wrap(text, arguments.GetCustomAttribute<VerbAttribute>()!.HelpText, 0, 0);
        text.AppendLine();
        foreach (ValueAttribute value in values)
        {
            Row(text, "  " + value.MetaName, value.HelpText, Column);
        }

        text.AppendLine().AppendLine("Options:");
        Options(text, arguments);
        foreach (string line in Notes(verb))
        {
            text.AppendLine(line);
        }

        return text.ToString();
    }

    private static string[] Notes(string verb) => verb switch
    {
        "mount" =>
        [
            "",
            "Examples:",
            "  imgmount disk.vmdk /mnt/x",
            "  imgmount -r -f qcow2 disk.img /mnt/x --allow-other",
            "  imgmount --image-opts driver=qcow2,file.filename=disk.qcow2 /mnt/x",
            "  touch disk.raw && imgmount disk.qcow2 disk.raw    the file becomes the disk",
        ],
        "umount" =>
        [
            "",
            "Exit code 1 when the image could not be flushed or closed properly, or when",
            "somebody uses the mount (who does is listed).",
        ],
        "check" =>
        [
            "",
            "Exit codes: 0 clean, 1 the check could not run, 2 corruption, 3 leaked space,",
            "63 the format has no check.",
        ],
        _ => [],
    };

    private static void Options(StringBuilder text, Type arguments)
    {
        foreach (OptionAttribute option in CommandLineReader.OptionsOf(arguments))
        {
            string left = (option.ShortName.Length > 0 ? $"  -{option.ShortName}" : "    ")
                + (option.LongName.Length == 0 ? "" : option.ShortName.Length > 0 ? ", --" : "  --") + option.LongName
                + (option.MetaValue.Length > 0 ? $"{(option.LongName.Length > 0 ? "=" : " ")}{option.MetaValue}" : "");
            Row(text, left, option.HelpText, Column);
        }

        Row(text, "  -h, --help", "This text.", Column);
    }

    private static void Row(StringBuilder text, string left, string right, int column)
    {
        text.Append(left);
        if (left.Length >= column - 1)
        {
            text.AppendLine();
            text.Append(' ', column);
        }
        else
        {
            text.Append(' ', column - left.Length);
        }

        Wrap(text, right, column, column);
    }

    private static void Wrap(StringBuilder text, string sentence, int indent, int at)
    {
        foreach (string word in sentence.Split(' '))
        {
            bool isFirst = at == indent;
            if (!isFirst && at + 1 + word.Length > Width)
            {
                text.AppendLine().Append(' ', indent);
                at = indent;
                isFirst = true;
            }

            text.Append(isFirst ? "" : " ").Append(word);
            at += word.Length + (isFirst ? 0 : 1);
        }

        text.AppendLine();
    }
}
