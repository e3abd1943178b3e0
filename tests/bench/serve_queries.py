"""Free queries over photographs whose file names say by WordNet what they show, each with a pattern of the right ones.

Made for the 300 photographs of ImageNet whose names are WNID_NAME.JPEG, before any answer was looked at."""

from __future__ import annotations

_DOG = r"/n02(08[5-9]|09\d|10\d|11[0-3])"
_BIRD = (
    r"brambling|indigo_bunting|bulbul|water_ouzel|grey_owl|black_grouse|peacock|partridge|lorikeet|hummingbird|toucan|"
    r"black_swan|flamingo|crane\.|gallinule|sandpiper|pelican|albatross"
)
QUERIES = {
    "dogs": _DOG,
    "a small dog": _DOG,
    "birds": _BIRD,
    "water birds": r"flamingo|crane\.|gallinule|sandpiper|pelican|albatross|black_swan",
    "snakes": r"snake|mamba|viper",
    "lizards": r"chameleon|lizard",
    "reptiles": r"turtle|terrapin|chameleon|lizard|alligator|snake|mamba|viper",
    "spiders": r"garden_spider|tarantula",
    "insects": r"beetle|/n02219486|cockroach|cicada|damselfly|butterfly|lycaenid",
    "butterfly": r"butterfly|lycaenid",
    "fish": r"tench|hammerhead|stingray|_eel|sturgeon|lionfish",
    "sharks and rays": r"hammerhead|stingray",
    "monkeys": r"guenon|langur|proboscis|titi",
    "wild cats": r"cougar|jaguar",
    "bears": r"brown_bear|ice_bear",
    "horned animals": r"water_buffalo|ibex",
    "elephant": r"elephant",
    "camel": r"camel",
    "frogs and toads": r"bullfrog",
    "crustaceans": r"fiddler_crab|crayfish|isopod",
    "boats": r"catamaran|fireboat|gondola|speedboat|schooner|yawl|container_ship|pirate",
    "sailing boats": r"catamaran|schooner|yawl|pirate",
    "ships at sea": r"container_ship|fireboat|pirate|schooner",
    "cars": r"beach_wagon|minivan",
    "buses and vans": r"minibus|minivan|police_van|trolleybus",
    "trucks": r"tow_truck",
    "trains": r"bullet_train|steam_locomotive",
    "aeroplanes": r"airliner",
    "bicycles": r"bicycle-built|tricycle|unicycle",
    "guitars": r"electric_guitar|banjo",
    "musical instruments": r"banjo|cello|chime|electric_guitar|French_horn|harp\.|ocarina|_sax",
    "clocks and watches": r"digital_clock|hourglass|stopwatch",
    "furniture": r"cradle|crib|desk|four-poster|table_lamp|wardrobe|fire_screen|pool_table",
    "beds for children": r"cradle|crib",
    "kitchen appliances": r"dishwasher|espresso|refrigerator|rotisserie",
    "shoes": r"cowboy_boot|Loafer|running_shoe|sandal",
    "hand tools": r"hatchet|screwdriver|plane\.|power_drill|pencil_sharpener",
    "fruit": r"orange\.|banana|custard_apple",
    "vegetables": r"head_cabbage|spaghetti_squash|artichoke|cardoon",
    "mountains and volcanoes": r"_alp\.|volcano|promontory",
    "mushrooms": r"stinkhorn|hen-of-the-woods",
}
