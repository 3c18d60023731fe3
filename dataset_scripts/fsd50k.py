"""FSD50K: 51,197 Freesound clips with 200 classes of the AudioSet ontology, several to a clip."""

from arch_hf.data.official.raw import read_table
from arch_hf.data.spec import Clip, Corpus, Source

# The vocabulary, in its own order.
CLASSES = tuple(
    """Accelerating_and_revving_and_vroom Accordion Acoustic_guitar Aircraft Alarm Animal Applause Bark Bass_drum
    Bass_guitar Bathtub_(filling_or_washing) Bell Bicycle Bicycle_bell Bird
    Bird_vocalization_and_bird_call_and_bird_song Boat_and_Water_vehicle Boiling Boom Bowed_string_instrument
    Brass_instrument Breathing Burping_and_eructation Bus Buzz Camera Car Car_passing_by Cat Chatter Cheering
    Chewing_and_mastication Chicken_and_rooster Child_speech_and_kid_speaking Chime Chink_and_clink Chirp_and_tweet
    Chuckle_and_chortle Church_bell Clapping Clock Coin_(dropping) Computer_keyboard Conversation Cough Cowbell Crack
    Crackle Crash_cymbal Cricket Crow Crowd Crumpling_and_crinkling Crushing Crying_and_sobbing Cupboard_open_or_close
    Cutlery_and_silverware Cymbal Dishes_and_pots_and_pans Dog Domestic_animals_and_pets Domestic_sounds_and_home_sounds
    Door Doorbell Drawer_open_or_close Drill Drip Drum Drum_kit Electric_guitar Engine Engine_starting Explosion Fart
    Female_singing Female_speech_and_woman_speaking Fill_(with_liquid) Finger_snapping Fire Fireworks
    Fixed-wing_aircraft_and_airplane Fowl Frog Frying_(food) Gasp Giggle Glass Glockenspiel Gong Growling Guitar
    Gull_and_seagull Gunshot_and_gunfire Gurgling Hammer Hands Harmonica Harp Hi-hat Hiss Human_group_actions
    Human_voice Idling Insect Keyboard_(musical) Keys_jangling Knock Laughter Liquid
    Livestock_and_farm_animals_and_working_animals Male_singing Male_speech_and_man_speaking Mallet_percussion
    Marimba_and_xylophone Mechanical_fan Mechanisms Meow Microwave_oven Motor_vehicle_(road) Motorcycle Music
    Musical_instrument Ocean Organ Packing_tape_and_duct_tape Percussion Piano Plucked_string_instrument Pour Power_tool
    Printer Purr Race_car_and_auto_racing Rail_transport Rain Raindrop Ratchet_and_pawl Rattle Rattle_(instrument)
    Respiratory_sounds Ringtone Run Sawing Scissors Scratching_(performance_technique) Screaming Screech Shatter Shout
    Sigh Singing Sink_(filling_or_washing) Siren Skateboard Slam Sliding_door Snare_drum Sneeze Speech
    Speech_synthesizer Splash_and_splatter Squeak Stream Strum Subway_and_metro_and_underground Tabla Tambourine Tap
    Tearing Telephone Thump_and_thud Thunder Thunderstorm Tick Tick-tock Toilet_flush Tools
    Traffic_noise_and_roadway_noise Train Trickle_and_dribble Truck Trumpet Typewriter Typing Vehicle
    Vehicle_horn_and_car_horn_and_honking Walk_and_footsteps Water Water_tap_and_faucet Waves_and_surf Whispering
    Whoosh_and_swoosh_and_swish Wild_animals Wind Wind_chime Wind_instrument_and_woodwind_instrument Wood Writing Yell
    Zipper_(clothing)""".split()
)
URL = "https://zenodo.org/records/4060432/files/FSD50K."
PART = 3_221_225_472  # bytes of every part of a split archive but its last


def read(raw):
    for table, folder in (("dev", "dev_audio"), ("eval", "eval_audio")):
        columns = ("fname", "labels", *(("split",) if table == "dev" else ()))
        for row in read_table(
            raw.one(f"FSD50K.ground_truth/{table}.csv", f"ground_truth/{table}.csv", f"{table}.csv"), columns
        ):
            split = (
                {"train": "train", "val": "validation"}[row.choose("split", ("train", "val"))]
                if table == "dev"
                else "test"
            )
            name = f"{row.file('fname')}.wav"
            path = raw.find(f"FSD50K.{folder}/{name}") or raw.locate(f"{folder}/{name}")
            yield Clip(path, row["fname"], split, row.choose_all("labels", row["labels"].split(","), CLASSES))


CORPUS = Corpus(
    name="fsd50k",
    title="FSD50K",
    domain="events",
    task="multi_label",
    classes=CLASSES,
    splits={"train": 36796, "validation": 4170, "test": 10231},
    max_seconds=10.0,
    licence="cc-by-4.0",
    citation="""@article{fonseca2022fsd50k,
  author = {Fonseca, Eduardo and Favory, Xavier and Pons, Jordi and Font, Frederic and Serra, Xavier},
  title = {{FSD50K}: An Open Dataset of Human-Labeled Sound Events},
  journal = {IEEE/ACM Transactions on Audio, Speech, and Language Processing},
  volume = {30},
  year = {2022}
}""",
    homepage="https://zenodo.org/records/4060432",
    read=read,
    layout="FSD50K.dev_audio/*.wav, FSD50K.eval_audio/*.wav and FSD50K.ground_truth/{dev,eval}.csv",
    sources=(
        Source(f"{URL}dev_audio.z01", PART, md5="faa7cf4cc076fc34a44a479a5ed862a3"),
        Source(f"{URL}dev_audio.z02", PART, md5="8f9b66153e68571164fb1315d00bc7bc"),
        Source(f"{URL}dev_audio.z03", PART, md5="1196ef47d267a993d30fa98af54b7159"),
        Source(f"{URL}dev_audio.z04", PART, md5="d088ac4e11ba53daf9f7574c11cccac9"),
        Source(f"{URL}dev_audio.z05", PART, md5="81356521aa159accd3c35de22da28c7f"),
        Source(f"{URL}dev_audio.zip", 2_306_663_327, md5="c480d119b8f7a7e32fdb58f3ea4d6c5a"),
        Source(f"{URL}eval_audio.z01", PART, md5="3090670eaeecc013ca1ff84fe4442aeb"),
        Source(f"{URL}eval_audio.zip", 3_037_675_767, md5="6fa47636c3a3ad5c7dfeba99f2637982"),
        Source(f"{URL}ground_truth.zip", md5="ca27382c195e37d2269c4c866dd73485"),
        Source(f"{URL}metadata.zip", md5="b9ea0c829a411c1d42adb9da539ed237"),
        Source(f"{URL}doc.zip", md5="3516162b82dc2945d3e7feba0904e800"),
    ),
    credits=("dev_clips_info_FSD50K.json", "eval_clips_info_FSD50K.json"),
    table1=(51197, 7.64, 200),
    freesound_id="clip_id",
    notes=(
        "The set is CC BY 4.0; each clip has its own Creative Commons licence, some of them non-commercial, listed in "
        "FSD50K.metadata.",
        "A clip carries the parents of its classes too: 114,271 labels in train and validation, 38,596 in test.",
        "The uploader of a clip is not in the ground truth, so no group is known.",
    ),
)
